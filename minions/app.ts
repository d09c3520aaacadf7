/** The console's pages, as a Hono handler over a snapshot of the cluster. */
import { Hono } from "hono";
import { html } from "hono/html";
import type { ClusterView } from "./cluster.ts";

export function minionsApp(cluster: () => ClusterView): Hono {
  const app = new Hono();

  app.get("/", (context) => context.html(page(cluster())));
  app.get("/nodes", (context) => context.json(cluster()));
  app.notFound((context) => context.text("not found\n", 404));
  return app;
}

function page({ instances, stale }: ClusterView) {
  return html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta http-equiv="refresh" content="5">
        <title>Gru: live nodes</title>
        <style>
        :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
        body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
        table { border-collapse: collapse; width: 100% }
        th, td { text-align: left; padding: .4rem 1rem .4rem 0; border-bottom: 1px solid #8884; vertical-align: top }
        .stale { padding: .5rem 1rem; border-left: 4px solid #c70 }
      </style>
      </head>
      <body>
      <h1>Live nodes</h1>
      ${stale
        ? html`<p class="stale" role="status">The registry is out of reach. This is what was last known.</p>`
        : ""}
      <table>
        <thead><tr><th>Program</th><th>Name</th><th>Addresses</th><th>Up since</th></tr></thead>
        <tbody>${instances.map(({ service, name, addresses, startedAt }) =>
          html`
            <tr>
              <td>${service}</td>
              <td>${name}</td>
              <td>${Object.entries(addresses).map(([purpose, url]) =>
                html`${purpose}: ${url}<br>`
              )}</td>
              <td>${new Date(startedAt).toISOString()}</td>
            </tr>
          `
        )}
        </tbody>
      </table>
      ${instances.length === 0 ? html`<p>No node is alive.</p>` : ""}
      </body>
    </html>
  `;
}
