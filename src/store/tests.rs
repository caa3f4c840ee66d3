use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rask-store-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("temp folder");
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("rask.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_dir_all(&self.0);
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn open(path: &Path) -> StoreHandle {
    StoreHandle::open(path).expect("opens")
}

fn cluster(name: &str, start_ms: i64) -> ClusterRecord {
    ClusterRecord {
        name: name.to_owned(),
        start_ms,
        user: "alice".to_owned(),
        status: "PENDING".to_owned(),
        stop_ms: None,
        reason: None,
        body: "{}".to_owned(),
    }
}

#[test]
fn clusters_survive_closing_and_are_finished_once() {
    let folder = Folder::new("clusters");
    run(async {
        let store = open(&folder.file());
        store.upsert_cluster(cluster("a", 1)).await.expect("kept");
        store.upsert_cluster(cluster("b", 2)).await.expect("kept");
        let running =
            ClusterRecord { status: "RUNNING".to_owned(), body: "{\"target\":2}".to_owned(), ..cluster("a", 1) };
        store.upsert_cluster(running.clone()).await.expect("kept");
        drop(store);
        let store = open(&folder.file());
        assert_eq!(store.load_clusters().await, Ok(vec![running.clone(), cluster("b", 2)]));
        let ended = ClusterRecord {
            status: "STOPPED".to_owned(),
            stop_ms: Some(50),
            reason: Some("asked".to_owned()),
            ..running
        };
        store.upsert_cluster(ended.clone()).await.expect("noted");
        assert_eq!(store.load_clusters().await, Ok(vec![cluster("b", 2)]));
        assert_eq!(store.finished_clusters(0, ClusterFilter::latest(10)).await, Ok(vec![ended]));
        assert_eq!(store.finished_clusters(51, ClusterFilter::latest(10)).await, Ok(Vec::new()));
        // The name may come again.
        store.upsert_cluster(cluster("a", 70)).await.expect("kept");
        assert_eq!(store.load_clusters().await, Ok(vec![cluster("b", 2), cluster("a", 70)]));
    });
    let mode = std::fs::metadata(folder.file()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn tokens_are_found_by_hash_until_revoked() {
    let folder = Folder::new("tokens");
    run(async {
        let store = open(&folder.file());
        let token = NewToken {
            id: "1".to_owned(),
            label: "laptop".to_owned(),
            user: "alice".to_owned(),
            role: "admin".to_owned(),
            hash: "ab".to_owned(),
            created_ms: 5,
            expires_ms: Some(9),
        };
        store.create_token(token.clone()).await.expect("kept");
        assert!(matches!(store.create_token(token.clone()).await, Err(StoreError::Query(_))));
        let mut kept = TokenRecord { token, used_ms: None };
        store.use_token("1", 7).await.expect("noted");
        kept.used_ms = Some(7);
        assert_eq!(store.tokens().await, Ok(vec![kept]));
        assert_eq!(store.revoke_token("1").await, Ok(true));
        assert_eq!(store.revoke_token("1").await, Ok(false));
        assert_eq!(store.tokens().await, Ok(Vec::new()));
    });
}

#[test]
fn history_is_forgotten_after_thirty_days() {
    let folder = Folder::new("history");
    let now = 40 * 86_400_000;
    run(async {
        let store = open(&folder.file());
        for (name, stop_ms) in [("old", 5), ("new", now - 10)] {
            store.upsert_cluster(ClusterRecord { stop_ms: Some(stop_ms), ..cluster(name, 1) }).await.expect("kept");
            let one = StoredComputation {
                cluster: name.to_owned(),
                cluster_start_ms: 1,
                id: "c".to_owned(),
                start_ms: stop_ms,
                stop_ms: None,
                body: "{}".to_owned(),
            };
            store.note_computations(vec![one.clone(), one]).await.expect("noted");
        }
        store.sweep(now).await.expect("swept");
        let left = store.finished_clusters(0, ClusterFilter::latest(9)).await.expect("read");
        assert_eq!(left.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["new"]);
        assert_eq!(store.computations(ClusterFilter::latest(9)).await.expect("read").len(), 1);
        let of = |user: &str, cluster: &str| ClusterFilter {
            user: Some(user.to_owned()),
            cluster: Some(cluster.to_owned()),
            limit: 9,
        };
        assert_eq!(store.computations(of("alice", "old")).await, Ok(Vec::new()));
        assert_eq!(store.computations(of("alice", "new")).await.expect("read").len(), 1);
        assert_eq!(store.computations(of("bob", "new")).await, Ok(Vec::new()));
        assert_eq!(store.finished_clusters(0, of("bob", "new")).await, Ok(Vec::new()));
        assert_eq!(store.was_anothers("new", "bob").await, Ok(true));
        assert_eq!(store.was_anothers("new", "alice").await, Ok(false));
        assert_eq!(store.was_anothers("old", "bob").await, Ok(false));
    });
}

#[test]
fn a_damaged_file_is_named_with_a_way_out() {
    let folder = Folder::new("damaged");
    std::fs::write(folder.file(), "this is not a database, whatever its name says. ".repeat(100)).expect("written");
    let why = StoreHandle::open(&folder.file()).expect_err("damaged");
    assert!(matches!(why, StoreError::Corrupt { .. }), "{why:?}");
    assert!(why.remedy().contains("rask.db-wal"));
    // Damage inside a file that begins well.
    std::fs::remove_file(folder.file()).expect("there");
    run(async {
        let store = open(&folder.file());
        for start in 0..200 {
            store.upsert_cluster(ClusterRecord { body: "x".repeat(2000), ..cluster("a", start) }).await.expect("kept");
        }
        store.call(|db| db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))).await.expect("written");
    });
    let mut bytes = std::fs::read(folder.file()).expect("there");
    for byte in bytes.iter_mut().skip(8192) {
        *byte = 0xa5;
    }
    std::fs::write(folder.file(), bytes).expect("written");
    assert!(matches!(StoreHandle::open(&folder.file()), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let folder = Folder::new("newer");
    run(async {
        let store = open(&folder.file());
        store.call(|db| db.pragma_update(None, "user_version", 4711)).await.expect("set");
    });
    let why = StoreHandle::open(&folder.file()).expect_err("newer");
    assert!(matches!(why, StoreError::Newer { found: 4711, .. }), "{why:?}");
}

#[test]
fn a_full_disk_is_said_and_nothing_is_lost() {
    let folder = Folder::new("full");
    run(async {
        let store = open(&folder.file());
        store.upsert_cluster(cluster("kept", 1)).await.expect("kept");
        // SQLite's own bound on pages ends as a full disk does.
        store.call(|db| db.query_row("PRAGMA max_page_count = 1", [], |_| Ok(()))).await.expect("set");
        let huge = ClusterRecord { body: "x".repeat(1 << 20), ..cluster("huge", 2) };
        let why = store.upsert_cluster(huge).await.expect_err("no room");
        assert!(matches!(why, StoreError::Full { .. }), "{why:?}");
        assert_eq!(store.load_clusters().await, Ok(vec![cluster("kept", 1)]));
    });
}

#[test]
fn a_file_that_may_not_be_opened_is_an_error_with_its_name() {
    let folder = Folder::new("unreadable");
    let why = StoreHandle::open(&folder.0).expect_err("a folder");
    assert!(matches!(&why, StoreError::Io { path, .. } if *path == folder.0), "{why:?}");
}
