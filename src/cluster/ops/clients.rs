//! Clients: how their streams begin, beat and end.

use std::collections::VecDeque;
use std::time::Duration;

use tracing::{debug, info};

use crate::base::{ClientId, Text, Value};
use crate::cluster::codec::raise;
use crate::cluster::codec::versions::{Side, mismatch_warning};
use crate::cluster::state::handle::ConnId;
use crate::cluster::state::{Call, ClientLink, Driver, Role};
use crate::net::Pace;
use crate::sched::{Event, heartbeat_interval_secs};

impl Driver {
    /// `register-client`: from here on the connection is a stream. Its first message is a list.
    pub fn register_client(&mut self, call: Call, body: &Value) {
        let Some(Value::Str(name)) = body.get("client") else {
            return self.finish(call, Err(raise("TypeError", "register-client needs a client name")));
        };
        let Some(found) = self.conns.get_mut(&call.conn) else { return };
        let outbox = found.line.outbox.clone();
        outbox.set_pace(Pace::client());
        // A client that lost its connection comes back under its name; what it wanted then is of no use to it now.
        if let Some(old) = self.sched.client_id(name)
            && let Some(conn) = self.clients.get(&old).map(|link| link.conn)
        {
            self.remove_client(conn, old);
            if let Some(found) = self.conns.get_mut(&conn) {
                found.role = Role::Quiet;
                found.line.outbox.close();
            }
        }
        let client = self.client_named(name);
        let versions = body.get("versions").cloned().unwrap_or_default();
        if let Some(found) = self.conns.get_mut(&call.conn) {
            found.role = Role::Client(client);
        }
        let warning = self.version_warning("Client", &versions);
        let link = ClientLink {
            name: name.clone(),
            conn: call.conn,
            outbox,
            touched: false,
            held: None,
            waiting: VecDeque::new(),
            versions,
            last_seen: self.clock.wall(),
        };
        self.clients.insert(client, link);
        self.learn_versions();
        self.totals.clients_added += 1;
        info!(client = %name, "client connected");
        self.log_client("add-client", name);
        let start = Value::map([
            ("op", "stream-start".into()),
            ("warning", warning.unwrap_or_default().into()),
            ("error", "".into()),
        ]);
        if let Some(outbox) = self.client_outbox(client) {
            outbox.push(|encoder| encoder.put_value(&start));
        }
        self.give_permits(call.conn, 1);
    }

    /// Asks the interpreter for its versions, once, when there is somebody to compare them with.
    fn learn_versions(&mut self) {
        if self.versions.is_some() || std::mem::replace(&mut self.versions_asked, true) {
            return;
        }
        let Some(pyhost) = self.pyhost.clone() else { return };
        let desk = self.desk.clone();
        tokio::spawn(async move {
            match pyhost.versions().await {
                Ok(versions) => desk.tell(move |driver| driver.versions = Some(versions)).await,
                Err(failure) => debug!(?failure, "the interpreter did not tell its versions"),
            }
        });
    }

    /// What to warn a newcomer of, once our own versions are known.
    pub fn version_warning(&self, name: &str, theirs: &Value) -> Option<String> {
        let ours = self.versions.as_ref().unwrap_or(theirs);
        let workers: Vec<(Text, Value)> = self
            .sched
            .workers()
            .into_iter()
            .filter_map(|view| Some((view.address.clone(), self.workers.get(&view.id)?.facts.versions.clone())))
            .collect();
        let source = Side { name, versions: theirs };
        mismatch_warning(source, Side { name: "Scheduler", versions: ours }, &workers)
    }

    pub fn on_client_heartbeat(&mut self, client: ClientId) {
        let clients = self.sched.clients().len();
        let now = self.clock.wall();
        if let Some(link) = self.clients.get_mut(&client) {
            link.last_seen = now;
        }
        let interval = heartbeat_interval_secs(clients) * 10.0;
        let message = Value::map([("op", "adjust-heartbeat-interval".into()), ("interval", interval.into())]);
        if let Some(outbox) = self.client_outbox(client) {
            outbox.push(|encoder| encoder.put_value(&message));
        }
    }

    /// The stream on `conn` is over. Nothing happens if the client has another one by now.
    pub fn remove_client(&mut self, conn: ConnId, client: ClientId) {
        if self.clients.get(&client).is_none_or(|link| link.conn != conn) {
            return;
        }
        let Some(link) = self.clients.remove(&client) else { return };
        link.outbox.kick();
        info!(client = %link.name, "client gone");
        self.totals.clients_removed += 1;
        self.log_client("remove-client", &link.name);
        self.topics.forget_client(&link.name);
        self.abandon_graphs(client);
        self.apply(Event::ClientRemoved { client });
        self.fail_barriers(&link.name);
        self.forget_events_later(link.name);
    }

    fn log_client(&mut self, action: &str, name: &Text) {
        let hook = if action == "add-client" { "add_client" } else { "remove_client" };
        self.hook(hook, vec![Value::Str(name.clone())], Value::Map(Vec::new()));
        let message = Value::map([("action", action.into()), ("client", Value::Str(name.clone()))]);
        self.log_event(&["all".into(), name.clone()], &message);
    }

    /// Drops the events of a client or worker that left, some time from now, unless it is back.
    pub fn forget_events_later(&self, topic: Text) {
        let desk = self.desk.clone();
        // A wish for ever (or for nonsense) is a year: longer than any scheduler.
        let delay = Duration::try_from_secs_f64(self.keep.events_cleanup_secs.clamp(0.0, 31_536_000.0));
        tokio::spawn(async move {
            tokio::time::sleep(delay.unwrap_or_default()).await;
            desk.tell(move |driver| {
                if driver.client_link(&topic).is_none() && driver.sched.worker_by_address(&topic).is_none() {
                    driver.topics.truncate(&topic);
                }
            })
            .await;
        });
    }
}
