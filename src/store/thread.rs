//! The thread that owns the connection, and the handle on it.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::error::StoreError;
use super::schema;

/// Requests that may wait. Each is small; more than this waiting means a disk that does not answer.
const QUEUE: usize = 256;
/// Longest wait for an answer: a query takes well under a millisecond on a healthy disk.
const DEADLINE: Duration = Duration::from_secs(10);
/// Another process (`sqlite3`, say) may hold the file for a moment.
const LOCKED_MAX: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle on the store. Cheap to clone; the file is closed when the last one is gone.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    jobs: mpsc::Sender<Job>,
    path: Arc<Path>,
}

impl StoreHandle {
    /// Opens the file, or makes it (readable by us only), and brings it to our schema. Blocks.
    ///
    /// Errors: damaged, newer than us, not to be opened, no room.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let made = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        made.map_err(|why| StoreError::Io { path: path.to_path_buf(), why: why.to_string() })?;
        let mut db = connect(path).map_err(|why| StoreError::from_sqlite(path, &why))?;
        check(&db, path)?;
        schema::migrate(&mut db, path)?;
        Ok(Self::run(db, path.to_path_buf()))
    }

    fn run(mut db: Connection, path: PathBuf) -> Self {
        let (jobs, mut inbox) = mpsc::channel::<Job>(QUEUE);
        std::thread::spawn(move || {
            while let Some(job) = inbox.blocking_recv() {
                job(&mut db);
            }
        });
        Self { jobs, path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a query on the store's thread.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        query: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |db| {
            // Nobody may wait any more; the change is made all the same.
            let _gone = reply.send(query(db));
        });
        let asked = async {
            self.jobs.send(job).await.map_err(|_| StoreError::Busy)?;
            answer.await.map_err(|_| StoreError::Busy)
        };
        let result = tokio::time::timeout(DEADLINE, asked).await.map_err(|_| StoreError::Busy)??;
        result.map_err(|why| StoreError::from_sqlite(&self.path, &why))
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(LOCKED_MAX)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // Survives our own death in any case; a power failure may cost the last moments, never the file.
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    Ok(db)
}

/// A damaged file is better found now than in the middle of a request.
fn check(db: &Connection, path: &Path) -> Result<(), StoreError> {
    let said: rusqlite::Result<String> = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    match said {
        Ok(said) if said == "ok" => Ok(()),
        Ok(why) => Err(StoreError::Corrupt { path: path.to_path_buf(), why }),
        Err(why) => Err(StoreError::from_sqlite(path, &why)),
    }
}
