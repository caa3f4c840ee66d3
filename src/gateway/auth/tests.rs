use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use base64::Engine;
use tokio::time::Instant;

use super::sessions::Sessions;
use super::token::SecretHash;
use super::*;
use crate::config::{AuthType, GatewayAuth};
use crate::store::StoreHandle;

const LOCAL: Caller =
    Caller { address: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1), same_user: true, tls: false };
const OTHER: Caller = Caller { same_user: false, ..LOCAL };
const REMOTE: Caller = Caller {
    address: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9)), 1),
    same_user: false,
    tls: true,
};

fn run<T>(name: &str, test: impl AsyncFnOnce(StoreHandle) -> T) -> T {
    let folder = std::env::temp_dir().join(format!("rask-auth-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("temp folder");
    let store = StoreHandle::open(&folder.join("rask.db")).expect("opens");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let result = runtime.block_on(test(store));
    std::fs::remove_dir_all(folder).expect("removed");
    result
}

async fn auth(kind: AuthType, password: &str, store: StoreHandle) -> Auth {
    let config = GatewayAuth {
        kind,
        password: password.to_owned(),
        admin_users: vec!["root".to_owned()],
        ..GatewayAuth::default()
    };
    Auth::new(config, "me", store).await.expect("fits together")
}

fn sends(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).expect("a value"));
    headers
}

fn basic(user: &str, password: &str) -> HeaderMap {
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    sends(&format!("Basic {text}"))
}

async fn who(auth: &Auth, headers: &HeaderMap, peer: Caller) -> Result<(String, bool), StatusCode> {
    auth.identify(headers, peer).await.map(|seen| (seen.user.name, seen.user.admin)).map_err(|why| why.status())
}

#[test]
fn the_same_user_needs_nothing_and_others_need_a_token() {
    run("local", async |store| {
        let auth = auth(AuthType::Local, "", store).await;
        let me = Ok(("me".to_owned(), true));
        assert_eq!(who(&auth, &HeaderMap::new(), LOCAL).await, me);
        assert_eq!(who(&auth, &basic("x", ""), LOCAL).await, me);
        assert_eq!(who(&auth, &HeaderMap::new(), OTHER).await, Err(StatusCode::UNAUTHORIZED));
        assert_eq!(who(&auth, &basic("me", ""), OTHER).await, Err(StatusCode::UNAUTHORIZED));
        let minted = Minted::new("", "alice", TokenRole::User, None);
        auth.sessions.keep(minted.token.clone()).await.expect("kept");
        let alice = Ok(("alice".to_owned(), false));
        for headers in [sends(&format!("Bearer {}", minted.secret)), basic("whoever", &minted.secret)] {
            assert_eq!(who(&auth, &headers, REMOTE).await, alice);
        }
        assert_eq!(auth.sessions.revoke(&minted.token.id).await, Ok(true));
        assert_eq!(
            who(&auth, &sends(&format!("token {}", minted.secret)), REMOTE).await,
            Err(StatusCode::UNAUTHORIZED)
        );
        let old = Minted::new("", "alice", TokenRole::Admin, Some(-1));
        auth.sessions.keep(old.token).await.expect("kept");
        assert_eq!(who(&auth, &basic("a", &old.secret), LOCAL).await, Err(StatusCode::UNAUTHORIZED));
    });
}

#[test]
fn basic_takes_any_name_with_the_password() {
    run("basic", async |store| {
        let auth = auth(AuthType::Basic, "open sesame", store.clone()).await;
        assert_eq!(who(&auth, &basic("alice", "open sesame"), REMOTE).await, Ok(("alice".to_owned(), false)));
        assert_eq!(who(&auth, &basic("root", "open sesame"), LOCAL).await, Ok(("root".to_owned(), true)));
        assert_eq!(who(&auth, &basic("alice", "open"), LOCAL).await, Err(StatusCode::UNAUTHORIZED));
        assert_eq!(who(&auth, &HeaderMap::new(), LOCAL).await, Err(StatusCode::UNAUTHORIZED));
        for nonsense in ["Basic", "Basic ???", "Basic YQ==", "Negotiate x"] {
            assert_eq!(who(&auth, &sends(nonsense), LOCAL).await, Err(StatusCode::UNAUTHORIZED), "{nonsense}");
        }
        let without = super::tests::auth(AuthType::Basic, "", store).await;
        assert_eq!(who(&without, &basic("alice", ""), OTHER).await, Ok(("alice".to_owned(), false)));
        assert_eq!(who(&without, &basic("alice", ""), REMOTE).await, Err(StatusCode::UNAUTHORIZED));
    });
}

#[test]
fn a_session_spares_the_credentials_and_many_failures_block_passwords_but_not_tokens() {
    run("failures", async |store| {
        let auth = auth(AuthType::Basic, "right", store).await;
        let seen = auth.identify(&basic("alice", "right"), LOCAL).await.map_err(|why| why.status()).expect("admitted");
        let cookie = seen.cookie.expect("begun");
        let mut headers = HeaderMap::new();
        let pair = cookie.split(';').next().expect("a pair");
        headers.insert(header::COOKIE, HeaderValue::from_str(&format!("a=b; {pair}")).expect("a value"));
        assert_eq!(who(&auth, &headers, OTHER).await, Ok(("alice".to_owned(), false)));
        let minted = Minted::new("", "bob", TokenRole::User, None);
        auth.sessions.keep(minted.token).await.expect("kept");
        for _ in 0..100 {
            assert_eq!(who(&auth, &HeaderMap::new(), LOCAL).await, Err(StatusCode::UNAUTHORIZED));
        }
        assert_eq!(who(&auth, &basic("alice", "right"), LOCAL).await, Ok(("alice".to_owned(), false)));
        for _ in 0..30 {
            let _counted = who(&auth, &basic("alice", "wrong"), LOCAL).await;
        }
        assert_eq!(who(&auth, &basic("alice", "right"), LOCAL).await, Err(StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(who(&auth, &basic("x", &minted.secret), LOCAL).await, Ok(("bob".to_owned(), false)));
        assert_eq!(who(&auth, &headers, LOCAL).await, Ok(("alice".to_owned(), false)));
    });
}

#[test]
fn failures_are_forgotten_with_time() {
    let (mut sessions, now, who) = (Sessions::default(), Instant::now(), LOCAL.address.ip());
    for _ in 0..20 {
        assert_eq!(sessions.blocked_for(who, now), None);
        sessions.failed(who, now);
    }
    let wait = sessions.blocked_for(who, now).expect("blocked");
    assert_eq!(sessions.blocked_for(who, now + Duration::from_secs(wait)), None);
    assert_eq!(sessions.blocked_for(IpAddr::from([10, 0, 0, 1]), now), None);
}

#[test]
fn sessions_end() {
    let (mut sessions, now) = (Sessions::default(), Instant::now());
    let id = sessions.open_session(User { name: "a".to_owned(), admin: false }, now);
    assert!(sessions.session(SecretHash::of(&id), now + Duration::from_secs(299)).is_some());
    assert!(sessions.session(SecretHash::of(&id), now + Duration::from_secs(301)).is_none());
}
