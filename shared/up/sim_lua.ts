/**
 * Runs the scripts that Redis runs, as JavaScript: Lua 5.1 with what Redis adds to it. Numbers are doubles and become text as
 * `%.14g`, as there; what a script uses beyond this subset is refused by name.
 */
import luaparse from "luaparse";

import {
  LuaError,
  type LuaHost,
  LuaTable,
  type LuaValue,
  redisOf,
  runtime,
} from "./sim_lua_runtime.ts";

export type Script = (host: LuaHost, keys: readonly string[], argv: readonly string[]) => LuaValue;

const compiled = new Map<string, Script>();

export function compile(source: string): Script {
  return compiled.getOrInsertComputed(source, () => {
    const chunk = luaparse.parse(source, { luaVersion: "5.1", comments: false }) as unknown as Node;
    const body = new Writer().block(chunk.body as Node[], new Map());
    const run = new Function("$", "redis", "KEYS", "ARGV", `"use strict";${body}return [];`);
    return (host, keys, argv) =>
      run(runtime, redisOf(host), new LuaTable([...keys]), new LuaTable([...argv]))[0];
  });
}

// deno-lint-ignore no-explicit-any
type Node = any;
type Scope = Map<string, string>;

/** Writes JavaScript. Every call gives a list of values; each local has a name of its own. */
class Writer {
  #names = 0;

  block(nodes: readonly Node[], outer: Scope): string {
    const scope = new Map(outer);
    return nodes.map((node) => this.#statement(node, scope)).join("");
  }

  #statement(node: Node, scope: Scope): string {
    switch (node.type) {
      case "LocalStatement": {
        const values = this.#list(node.init, scope);
        const names = node.variables.map((variable: Node) => this.#declare(variable.name, scope));
        return `let [${names.join()}]=${values};`;
      }
      case "AssignmentStatement": {
        const targets = node.variables.map((variable: Node, i: number) =>
          variable.type === "Identifier"
            ? `${this.#name(variable.name, scope)}=v[${i}];`
            : `$.set(${this.#value(variable.base, scope)},${this.#key(variable, scope)},v[${i}]);`
        );
        return `{const v=${this.#list(node.init, scope)};${targets.join("")}}`;
      }
      case "CallStatement":
        return `${this.#call(node.expression, scope)};`;
      case "DoStatement":
        return `{${this.block(node.body, scope)}}`;
      case "IfStatement":
        return node.clauses.map((clause: Node, i: number) => {
          const body = `{${this.block(clause.body, scope)}}`;
          if (clause.condition === undefined) return `else${body}`;
          return `${i > 0 ? "else " : ""}if(${this.#truth(clause.condition, scope)})${body}`;
        }).join("");
      case "WhileStatement":
        return `while(${this.#truth(node.condition, scope)}){${this.block(node.body, scope)}}`;
      case "RepeatStatement": {
        const inner = new Map(scope);
        const body = node.body.map((one: Node) => this.#statement(one, inner)).join("");
        return `for(;;){${body}if(${this.#truth(node.condition, inner)})break;}`;
      }
      case "ForNumericStatement": {
        const inner = new Map(scope);
        const [from, to, step] = [node.start, node.end, node.step].map((part: Node | null) =>
          part === null ? "1" : `$.num(${this.#value(part, scope)})`
        );
        const name = this.#declare(node.variable.name, inner);
        const body = this.block(node.body, inner);
        return `for(let i=${from},e=${to},s=${step};s>0?i<=e:i>=e;i+=s){let ${name}=i;${body}}`;
      }
      case "ForGenericStatement": {
        const inner = new Map(scope);
        const [call] = node.iterators;
        const over = this.#value(call.arguments[0], scope);
        const names = node.variables.map((one: Node) => this.#declare(one.name, inner));
        const body = this.block(node.body, inner);
        return `for(let [${names.join()}] of $.each("${call.base.name}",${over})){${body}}`;
      }
      case "FunctionDeclaration": {
        if (!node.isLocal) throw new LuaError("a global function is not simulated");
        const name = this.#declare(node.identifier.name, scope);
        return `let ${name}=${this.#function(node, scope)};`;
      }
      case "ReturnStatement":
        return `return ${this.#list(node.arguments, scope)};`;
      case "BreakStatement":
        return "break;";
      default:
        throw new LuaError(`${node.type} is not simulated`);
    }
  }

  #function(node: Node, scope: Scope): string {
    const inner = new Map(scope);
    const names = node.parameters.map((one: Node) =>
      one.type === "VarargLiteral"
        ? `...${this.#declare("...", inner)}`
        : this.#declare(one.name, inner)
    );
    return `(${names.join()})=>{${this.block(node.body, inner)}return [];}`;
  }

  /** All values of a list of expressions: of the last one, where it is a call, all that it gives. */
  #list(nodes: readonly Node[], scope: Scope): string {
    return `[${
      nodes.map((node, i) =>
        i < nodes.length - 1
          ? this.#value(node, scope)
          : isCall(node)
          ? `...${this.#call(node, scope)}`
          : node.type === "VarargLiteral"
          ? `...${this.#name("...", scope)}`
          : this.#value(node, scope)
      ).join()
    }]`;
  }

  #truth(node: Node, scope: Scope): string {
    return `$.truth(${this.#value(node, scope)})`;
  }

  #value(node: Node, scope: Scope): string {
    switch (node.type) {
      case "NilLiteral":
        return "undefined";
      case "BooleanLiteral":
      case "NumericLiteral":
        return String(node.value);
      case "StringLiteral":
        return JSON.stringify(node.value ?? unquoted(node.raw));
      case "Identifier":
        return this.#name(node.name, scope);
      case "VarargLiteral":
        return `${this.#name("...", scope)}[0]`;
      case "MemberExpression":
        if (node.base.name === "redis") return `redis.${node.identifier.name}`;
        return `$.get(${this.#value(node.base, scope)},${this.#key(node, scope)})`;
      case "IndexExpression":
        return `$.get(${this.#value(node.base, scope)},${this.#key(node, scope)})`;
      case "CallExpression":
      case "StringCallExpression":
      case "TableCallExpression":
        return `(${this.#call(node, scope)})[0]`;
      case "LogicalExpression": {
        const [left, right] = [this.#value(node.left, scope), this.#value(node.right, scope)];
        return `$.${node.operator}(${left},()=>${right})`;
      }
      case "UnaryExpression":
        return `$.unary(${JSON.stringify(node.operator)},${this.#value(node.argument, scope)})`;
      case "BinaryExpression": {
        const [left, right] = [this.#value(node.left, scope), this.#value(node.right, scope)];
        return `$.binary(${JSON.stringify(node.operator)},${left},${right})`;
      }
      case "TableConstructorExpression":
        return this.#table(node.fields, scope);
      case "FunctionDeclaration":
        return this.#function(node, scope);
      default:
        throw new LuaError(`${node.type} is not simulated`);
    }
  }

  #table(fields: readonly Node[], scope: Scope): string {
    const values = fields.filter(({ type }) => type === "TableValue").map(({ value }) => value);
    const keyed = fields.filter(({ type }) => type !== "TableValue").map((field) => {
      const key = field.type === "TableKeyString"
        ? JSON.stringify(field.key.name)
        : this.#value(field.key, scope);
      return `[${key},${this.#value(field.value, scope)}]`;
    });
    return `$.table(${this.#list(values, scope)},[${keyed.join()}])`;
  }

  #call(node: Node, scope: Scope): string {
    const { base } = node;
    const args = node.type === "StringCallExpression"
      ? `[${this.#value(node.argument, scope)}]`
      : this.#list(node.arguments, scope);
    if (base.type === "Identifier" && !scope.has(base.name)) return `$.${base.name}(...${args})`;
    if (base.type === "MemberExpression" && base.base.type === "Identifier") {
      const { name } = base.base;
      if (name === "redis") return `redis.${base.identifier.name}(...${args})`;
      if (!scope.has(name)) return `$.${name}_${base.identifier.name}(...${args})`;
    }
    return `(${this.#value(base, scope)})(...${args})`;
  }

  #key(node: Node, scope: Scope): string {
    return node.type === "MemberExpression"
      ? JSON.stringify(node.identifier.name)
      : this.#value(node.index, scope);
  }

  #name(name: string, scope: Scope): string {
    const found = scope.get(name);
    if (found !== undefined) return found;
    if (name === "KEYS" || name === "ARGV") return name;
    throw new LuaError(`Script attempted to access nonexistent global variable '${name}'`);
  }

  #declare(name: string, scope: Scope): string {
    const own = `${name === "..." ? "rest" : name}_${++this.#names}`;
    scope.set(name, own);
    return own;
  }
}

function isCall({ type }: Node): boolean {
  return /CallExpression$/.test(type);
}

function unquoted(raw: string): string {
  return raw.slice(1, -1).replaceAll(
    /\\(.)/g,
    (_, char) => ({ n: "\n", t: "\t", r: "\r" } as Record<string, string>)[char] ?? char,
  );
}
