// Decides by the address what this is: the appliance's shell (the base itself) or a page of a cluster.
import { useEffect } from "preact/hooks";
import { base, place } from "./base/url";
import { askWhere, where } from "./base/where";
import { Appliance } from "./appliance/Appliance";
import { Cluster } from "./cluster/Cluster";
import { startFeed } from "./feed/feed";

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
    void askWhere();
  }, []);
  if (page === "") return where.value?.kind === "cluster" ? <Cluster page="status" name={clusterName()} shell={null} /> : <Appliance />;
  if (!fed) {
    fed = true;
    startFeed();
  }
  return <Cluster page={page} name={clusterName()} shell={shellAbove()} />;
}
