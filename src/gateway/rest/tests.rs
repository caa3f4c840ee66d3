//! The bodies of both REST APIs: exactly these fields, and what is refused by name.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::shape::{ClusterInfo, MintedToken, NewClusterBody, NewTokenBody, ScaleAnswer, TokenInfo, seconds, typed};
use super::{BASE, Document, table};
use crate::fleet::{AdaptBounds, ClusterName, ClusterSettings, ClusterStatus, ClusterView};
use crate::gateway::dask::model;
use crate::pki::Pair;

fn view(status: ClusterStatus) -> ClusterView {
    ClusterView {
        name: ClusterName::parse("a.1").expect("a name"),
        user: "alice".to_owned(),
        status,
        options: Map::from_iter([("worker_cores".to_owned(), json!(2))]),
        settings: ClusterSettings { nthreads: 2, worker_memory_bytes: 1 << 30, ..ClusterSettings::default() },
        start_ms: 1_000,
        stop_ms: None,
        reason: None,
        ran: true,
        last_lines: Vec::new(),
        target: 3,
        adapt: Some(AdaptBounds { minimum: 1, maximum: None }),
        workers: 2,
        without_room: 1,
        jobs: Vec::new(),
        jobs_note: None,
        scheduler_pid: Some(7),
        scheduler_address: Some("tls://127.0.0.1:40001".to_owned()),
        tls: Some(Arc::new(Pair { cert_pem: "cert".to_owned(), key_pem: "key".to_owned() })),
        plain_address: Some("tcp://127.0.0.1:8786".to_owned()),
    }
}

/// Goal: dask-gateway's client builds its report from these keys and no others.
#[test]
fn a_running_cluster_is_told_to_dasks_client_with_its_credentials() {
    let expected = json!({
        "name": "a.1", "status": "RUNNING", "dashboard_route": "/clusters/a.1/status", "start_time": 1_000,
        "stop_time": null, "options": {"worker_cores": 2}, "tls_cert": "cert", "tls_key": "key",
    });
    assert_eq!(model(&view(ClusterStatus::Running)), expected);
}

#[test]
fn a_cluster_that_does_not_run_is_told_to_dasks_client_without_credentials_and_page() {
    for status in [ClusterStatus::Pending, ClusterStatus::Stopping, ClusterStatus::Stopped, ClusterStatus::Failed] {
        let told = model(&view(status));
        for field in ["dashboard_route", "tls_cert", "tls_key"] {
            assert_eq!(told.get(field), Some(&Value::Null), "{status:?} {field}");
        }
    }
}

/// Goal: our own list of clusters never holds a key, and offers addresses only where somebody listens.
#[test]
fn our_body_of_a_cluster_has_addresses_while_it_runs_and_never_a_key() {
    let told = |status| serde_json::to_value(ClusterInfo::of(&view(status), "host:8787")).expect("JSON");
    let (running, stopped) = (told(ClusterStatus::Running), told(ClusterStatus::Stopped));
    assert_eq!(running.get("gateway_address"), Some(&json!("gateway://host:8787/a.1")));
    assert_eq!(running.get("scheduler_address"), Some(&json!("tcp://127.0.0.1:8786")));
    assert_eq!(running.get("dashboard"), Some(&json!("clusters/a.1/status")));
    assert_eq!(running.get("adapt"), Some(&json!({"minimum": 1, "maximum": null})));
    assert_eq!(running.get("memory_limit"), Some(&json!(1 << 30)));
    for field in ["gateway_address", "scheduler_address", "dashboard"] {
        assert_eq!(stopped.get(field), Some(&Value::Null), "{field}");
    }
    assert!(!running.to_string().contains("key\""), "{running}");
}

#[test]
fn scaling_says_what_was_granted_instead() {
    let told = |msg: Option<&str>| {
        let answer = ScaleAnswer { ok: msg.is_none(), msg: msg.map(str::to_owned) };
        serde_json::to_value(answer).expect("JSON")
    };
    assert_eq!(told(None), json!({"ok": true, "msg": null}));
    assert_eq!(told(Some("2 of 3")), json!({"ok": false, "msg": "2 of 3"}));
}

#[test]
fn a_token_is_told_without_its_secret_unless_it_was_just_made() {
    let token = || TokenInfo {
        id: "1".to_owned(),
        label: "l".to_owned(),
        user: "alice".to_owned(),
        role: "user".to_owned(),
        created_time: 1,
        expires_time: None,
        used_time: None,
        expired: false,
    };
    let listed = serde_json::to_value(token()).expect("JSON");
    let made = serde_json::to_value(MintedToken { secret: "rask_x".to_owned(), token: token() }).expect("JSON");
    assert_eq!(listed.get("secret"), None);
    assert_eq!(made, json!({"secret": "rask_x", "token": listed}));
}

#[test]
fn a_body_with_a_field_that_nobody_knows_is_refused_by_that_name() {
    let refused = |why: Option<crate::gateway::error::ApiError>| format!("{:?}", why.expect("refused"));
    let cluster = typed::<NewClusterBody>(json!({"name": "a", "worker": 3})).err();
    assert!(refused(cluster).contains("worker"));
    let token = typed::<NewTokenBody>(json!({"expires": "1 day"})).err();
    assert!(refused(token).contains("expires"));
    let empty = typed::<NewClusterBody>(json!({})).expect("everything may be left out");
    assert!(empty.name.is_none() && empty.options.is_null() && empty.workers.is_none());
}

#[test]
fn durations_are_seconds_or_a_text_with_a_unit() {
    let read = |given: Value| seconds("expires_in", &given).ok();
    assert_eq!(read(json!(90)), Some(90.0));
    assert_eq!(read(json!("30 days")), Some(30.0 * 86_400.0));
    for bad in [json!(-1), json!("soon"), json!(null), json!([1]), json!(true)] {
        assert_eq!(read(bad.clone()), None, "{bad}");
    }
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let document = serde_json::to_value(Document::openapi()).expect("JSON");
    let paths = document.get("paths").and_then(serde_json::Value::as_object).expect("paths");
    let described: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().expect("methods").keys().map(|method| (path.clone(), method.clone()))
        })
        .collect();
    let served: BTreeSet<(String, String)> = table()
        .into_iter()
        .flat_map(|(path, methods, _)| {
            methods.iter().map(move |method| (format!("{BASE}{path}"), (*method).to_owned()))
        })
        .collect();
    assert_eq!(described, served);
}
