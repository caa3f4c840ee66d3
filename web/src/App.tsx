// Decides by the address what this is: the appliance's shell (the base itself) or a page of a cluster.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { getJson } from "./base/http";
import { asRow, str } from "./base/rows";
import { base, place } from "./base/url";
import { Appliance } from "./appliance/Appliance";
import { Cluster } from "./cluster/Cluster";
import { startFeed } from "./feed/feed";

/** What `api/where` said. */
const where = signal<{ kind: string; name: string; version: string } | null>(null);
let fed = false;

/** The shell above a cluster's page, if there is one: `clusters/NAME/` lies two folders below it. */
function shellAbove(): string | null {
  if (/\/clusters\/[^/]+\/$/.test(base().pathname)) return "../../";
  return where.value?.kind === "appliance" ? "./" : null;
}

function clusterName(): string {
  const found = /\/clusters\/([^/]+)\/$/.exec(base().pathname);
  return found?.[1] ? decodeURIComponent(found[1]) : where.value?.kind === "cluster" ? where.value.name || "cluster" : "local";
}

export function App() {
  const page = place.value.page;
  useEffect(() => {
    getJson("api/where").then(
      (said) => (where.value = { kind: str(asRow(said), "kind"), name: str(asRow(said), "name"), version: str(asRow(said), "version") }),
      () => (where.value = { kind: "cluster", name: "", version: "" }),
    );
  }, []);
  if (page === "") return where.value?.kind === "cluster" ? <Cluster page="status" name={clusterName()} shell={null} /> : <Appliance />;
  if (!fed) {
    fed = true;
    startFeed();
  }
  return <Cluster page={page} name={clusterName()} shell={shellAbove()} />;
}
