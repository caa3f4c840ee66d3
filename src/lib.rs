//! rask: Dask in one executable.
//!
//! *bytes → message → event → step → effects → messages → bytes.* The scheduler is a value (`sched`); everything
//! around it turns bytes into events and effects into bytes. *Pure* modules do arithmetic only: no clock, no socket, no
//! file. Who may name whom is held by `tests/tidy.rs`.
//!
//! | module | owns |
//! |---|---|
//! | `base` (pure) | keys, payloads, values, ids, limits |
//! | `sched` (pure) | the scheduler of one cluster: event in, effects out |
//! | `worker_state` (pure) | the state machine of one worker: event in, effects out |
//! | `wire` (pure) | bytes to messages and back |
//! | `pickle`, `graph` (pure) | pickles read without running them; a submitted graph to tasks |
//! | `order` (pure) | in which order the tasks of a graph should run |
//! | `config` (pure) | every setting, checked once |
//! | `clock` | the only reader of time and randomness |
//! | `files` | whole replacement of files, locks, rotation of logs |
//! | `pki`, `store` | certificates; what outlives the appliance, in one SQLite file |
//! | `peer` | other machines: tokens, the link between head and peer, what runs on them |
//! | `batch` | batch systems: what to submit and cancel, Slurm's programs |
//! | `net` | listeners, TLS, connections, outgoing calls |
//! | `pyhost` | the Python processes beside a scheduler |
//! | `executor` | the Python process of one of our own workers: its sockets, what is said on them |
//! | `node` | one of our own workers, all but its Python |
//! | `values` | values as bytes: in memory, or in files that other processes map |
//! | `cluster` | the driver: the only place where the scheduler meets the world |
//! | `host`, `supervise` | this machine; child processes on it |
//! | `gateway` | dask-gateway's REST API and our own: users, options, limits |
//! | `control` (pure) | what rask processes ask of each other: the vocabulary of the control socket |
//! | `link`, `door` | talk between rask processes, the front door |
//! | `fleet` | the clusters of this machine: their processes, their workers, their lives |
//! | `feed` | what the dashboard sees: snapshots of a scheduler, what changed in them |
//! | `http` | everything that is served over HTTP, put together and with its TLS |
//! | `app`, `cli` | a role each, composed of modules; the command line |

pub mod app;
pub mod base;
pub mod batch;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod control;
pub mod door;
pub mod executor;
pub mod feed;
pub mod files;
pub mod fleet;
pub mod gateway;
pub mod graph;
pub mod host;
pub mod http;
pub mod link;
pub mod net;
pub mod node;
pub mod order;
pub mod peer;
pub mod pickle;
pub mod pki;
pub mod pyhost;
pub mod sched;
pub mod store;
pub mod supervise;
pub mod values;
pub mod wire;
pub mod worker_state;
