/**
 * As much of React as its hooks use, for the checker: `react` is a peer dependency of the npm package, and its own types would come
 * with every start of Gru. Applications give the real one.
 */

export declare function useCallback<T>(callback: T, dependencies: readonly unknown[]): T;

export declare function useMemo<T>(make: () => T, dependencies: readonly unknown[]): T;

export declare function useSyncExternalStore<T>(
  subscribe: (changed: () => void) => () => void,
  getSnapshot: () => T,
  getServerSnapshot?: () => T,
): T;
