// A real nginx that has a server of ours below a prefix.
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Child, freePort, ROOT, until } from "./stage.mjs";

const NGINX = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/bin/nginx"].find(existsSync);

/** Why there is no nginx to test with; empty if there is one. */
export const noNginx = NGINX ? "" : "nginx is not installed";

/** What the guide tells people to write beside `proxy_pass`. */
export const WHOLE = readFileSync(join(ROOT, "packaging/doc/nginx.md"), "utf8")
  .match(/location \S+ \{\n(.*?)\n\}/s)[1]
  .split("\n")
  .map((line) => line.trim())
  .filter((line) => !line.startsWith("proxy_pass"));
/** What they forget. */
export const BARE = [];

/** nginx in the foreground, below a folder of its own. */
export async function startNginx(target, prefix, lines) {
  const folder = await mkdtemp(join(tmpdir(), "rask-nginx-"));
  const port = await freePort();
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${join(folder, name)};`,
  );
  const conf = `
    # The appliance answers its own user and root only; others would have to be in security.allow_users.
    ${process.getuid() === 0 ? "user root;" : ""} daemon off; worker_processes 1; pid ${join(folder, "pid")}; error_log stderr;
    events { worker_connections 256; }
    http {
      access_log off; ${temporary.join(" ")}
      server {
        listen 127.0.0.1:${port};
        location ${prefix} { proxy_pass ${target}; ${lines.join(" ")} }
      }
    }`;
  await writeFile(join(folder, "nginx.conf"), conf);
  const nginx = new Child(NGINX, ["-p", folder, "-e", "stderr", "-c", join(folder, "nginx.conf")], {}, folder);
  const base = `http://127.0.0.1:${port}${prefix}`;
  const stop = async () => {
    await nginx.stop();
    await rm(folder, { recursive: true, force: true });
  };
  await until(async () => (await fetch(`${base}health`)).ok, "nginx").catch(async (error) => {
    await stop();
    throw new Error(`${error.message}\n${nginx.output.slice(-2_000)}`);
  });
  return { base, stop };
}
