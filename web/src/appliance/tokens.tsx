// Tokens of the REST: list, make, revoke. A secret is shown once.
import { useSignal } from "@preact/signals";
import { moment } from "../base/format";
import type { Refusal } from "../base/http";
import { asRow, num, obj, rowsOf, str, type Row } from "../base/rows";
import { Empty, Panel, Trouble } from "../ui/Panel";
import { Table } from "../ui/Table";
import { attempt, useApi } from "./api";
import { Code, Dialog } from "./clusters";

const LIVES: readonly [string, string][] = [
  ["1 day", "a day"],
  ["30 days", "30 days"],
  ["365 days", "a year"],
  ["", "until revoked"],
];

export function Tokens() {
  const asked = useApi("/tokens");
  const making = useSignal(false);
  const failed = useSignal<Refusal | null>(null);
  const sure = useSignal("");
  const { data, error, busy } = asked.answer.value;
  const all = rowsOf(data, "tokens");
  const revoke = async (id: string): Promise<void> => {
    failed.value = (await attempt("DELETE", `/tokens/${encodeURIComponent(id)}`)).error;
    sure.value = "";
    asked.again();
  };
  const time = (row: Row, name: string): number => num(row, name) / 1000;
  return (
    <>
      {(error ?? failed.value) && <Trouble error={(error ?? failed.value) as Refusal} />}
      <Panel
        title="Tokens"
        summary="They stand for a user where no password is asked: scripts, other machines."
        class="flush"
        actions={
          <button type="button" class="primary" onClick={() => (making.value = true)}>
            New token
          </button>
        }
      >
        <Table
          caption="Tokens"
          rows={all}
          id={(row) => str(row, "id")}
          empty={
            <Empty title={busy ? "Asking the appliance" : "No tokens"}>
              Scripts on this machine need none. For others: New token, then send it as{" "}
              <code>Authorization: Bearer …</code>
            </Empty>
          }
          columns={[
            { label: "For", wide: true, value: (row) => str(row, "label") },
            { label: "User", value: (row) => str(row, "user") },
            { label: "Role", value: (row) => str(row, "role") },
            {
              label: "Made",
              num: true,
              value: (row) => time(row, "created_time"),
              show: (row) => moment(time(row, "created_time")),
            },
            {
              label: "Last used",
              num: true,
              value: (row) => time(row, "used_time"),
              show: (row) => moment(time(row, "used_time")),
            },
            {
              label: "Expires",
              num: true,
              value: (row) => time(row, "expires_time"),
              show: (row) =>
                row.expired === true ? (
                  <span class="warn">expired</span>
                ) : num(row, "expires_time") > 0 ? (
                  moment(time(row, "expires_time"))
                ) : (
                  "never"
                ),
            },
            { label: "Id", value: (row) => str(row, "id"), show: (row) => <span class="mono">{str(row, "id")}</span> },
            {
              label: "Actions",
              buttons: true,
              value: () => null,
              show: (row) =>
                sure.value === str(row, "id") ? (
                  <button type="button" class="danger" onClick={() => void revoke(str(row, "id"))}>
                    Really revoke
                  </button>
                ) : (
                  <button
                    type="button"
                    onClick={() => (sure.value = str(row, "id"))}
                    aria-label={`Revoke the token for ${str(row, "label")}`}
                  >
                    Revoke
                  </button>
                ),
            },
          ]}
        />
      </Panel>
      {making.value && (
        <NewToken
          onClose={() => {
            making.value = false;
            asked.again();
          }}
        />
      )}
    </>
  );
}

function NewToken({ onClose }: { onClose: () => void }) {
  const label = useSignal("");
  const life = useSignal("30 days");
  const error = useSignal<Refusal | null>(null);
  const made = useSignal<Row | null>(null);
  const send = async (event: Event): Promise<void> => {
    event.preventDefault();
    const done = await attempt("POST", "/tokens", {
      label: label.value,
      ...(life.value === "" ? {} : { expires_in: life.value }),
    });
    error.value = done.error;
    if (!done.error) made.value = asRow(done.answer);
  };
  const secret = made.value;
  if (secret) {
    return (
      <Dialog title="The new token" onClose={onClose}>
        <p>Copy it now: it is shown this once and kept only as a hash.</p>
        <Code text={str(secret, "secret")} />
        <p class="muted">For {str(obj(secret, "token"), "user")}.</p>
        <footer>
          <button type="button" class="primary" onClick={onClose}>
            Done
          </button>
        </footer>
      </Dialog>
    );
  }
  return (
    <Dialog title="New token" onClose={onClose}>
      <form class="plain" onSubmit={(event) => void send(event)}>
        <label class="field">
          <span>What it is for</span>
          <input
            type="text"
            required
            maxLength={100}
            value={label.value}
            onInput={(event) => (label.value = event.currentTarget.value)}
          />
        </label>
        <label class="field">
          <span>How long it lives</span>
          <select value={life.value} onChange={(event) => (life.value = event.currentTarget.value)}>
            {LIVES.map(([value, name]) => (
              <option key={value} value={value}>
                {name}
              </option>
            ))}
          </select>
        </label>
        {error.value && <Trouble error={error.value} />}
        <footer>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="primary">
            Create
          </button>
        </footer>
      </form>
    </Dialog>
  );
}
