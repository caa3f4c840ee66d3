//! `rask token ...`: tokens of a running appliance, through its REST API.

use serde_json::{Value, json};

use super::api::{ApiClient, Remote};
use crate::app::command_error::CommandError;
use crate::app::text::day;
use crate::app::text::out;
use crate::app::text::outln;
use crate::app::text::table;
use crate::base::url_part;
use crate::clock::unix_ms;

/// What `rask token` is to do.
#[derive(Clone, Debug)]
pub enum TokenCommand {
    /// List them.
    List,
    /// Make one.
    Create {
        label: String,
        /// Whom it stands for.
        user: Option<String>,
        /// admin or user
        role: String,
        /// Unit: seconds.
        expires_in: Option<f64>,
    },
    /// Make one for machines that should join, and print the line to paste there.
    Invite {
        /// How long it is good.
        secs: u64,
        /// For how many machines.
        uses: u32,
    },
    /// Revoke some.
    Revoke { ids: Vec<String> },
}

/// Does it and prints the outcome. Errors: the appliance's own words.
pub fn token(remote: &Remote, command: &TokenCommand, as_json: bool) -> Result<(), CommandError> {
    let client = ApiClient::find(remote)?;
    match command {
        TokenCommand::List => list(&client, as_json),
        TokenCommand::Invite { secs, uses } => invite(&client, *secs, *uses, as_json),
        TokenCommand::Create { label, user, role, expires_in } => {
            let body = json!({ "label": label, "user": user, "role": role, "expires_in": expires_in });
            let made = client.post("/tokens", &body)?;
            if as_json {
                outln!("{made:#}");
                return Ok(());
            }
            // The secret alone on standard output, so that it can be caught: TOKEN=$(rask token create).
            eprintln!("Shown once; use it as the password, or as `Authorization: Bearer`:");
            outln!("{}", made.get("secret").and_then(Value::as_str).unwrap_or_default());
            Ok(())
        }
        TokenCommand::Revoke { ids } => {
            for id in ids {
                revoke(&client, id)?;
                if !as_json {
                    outln!("{id} is revoked.");
                }
            }
            if as_json {
                outln!("{:#}", json!({ "revoked": ids }));
            }
            Ok(())
        }
    }
}

/// Tokens with which machines join. None where none may.
fn join_tokens(client: &ApiClient) -> Vec<Value> {
    let all = client.get("/join-tokens").ok();
    all.as_ref().and_then(Value::as_array).cloned().unwrap_or_default()
}

/// A join token in the words of the others.
fn as_token(join: &Value) -> Value {
    let expires = join.get("expires_ms").and_then(Value::as_i64).unwrap_or_default();
    let left = join.get("uses_left").and_then(Value::as_i64).unwrap_or_default();
    json!({
        "id": join.get("id"),
        "user": "",
        "role": "join",
        "label": format!("for {left} more machines"),
        "created_time": join.get("created_ms"),
        "expires_time": expires,
        "used_time": join.get("used_ms"),
        "expired": expires <= unix_ms(),
    })
}

fn invite(client: &ApiClient, secs: u64, uses: u32, as_json: bool) -> Result<(), CommandError> {
    let made = client.post("/join-tokens", &json!({ "ttl_secs": secs, "uses": uses }))?;
    if as_json {
        outln!("{made:#}");
        return Ok(());
    }
    let token = made.get("token").and_then(Value::as_str).unwrap_or_default();
    let at = made.get("address").and_then(Value::as_str).unwrap_or("https://HEAD:8787");
    outln!("rask join {at} --token {token}");
    Ok(())
}

fn revoke(client: &ApiClient, id: &str) -> Result<(), CommandError> {
    let of_joining = join_tokens(client).iter().any(|token| token.get("id").and_then(Value::as_str) == Some(id));
    // Machines that joined with it stay members.
    let place = if of_joining { "join-tokens" } else { "tokens" };
    client.delete(&format!("/{place}/{}", url_part(id)))
}

fn list(client: &ApiClient, as_json: bool) -> Result<(), CommandError> {
    let answer = client.get("/tokens")?;
    let mut tokens = answer.get("tokens").and_then(Value::as_array).cloned().unwrap_or_default();
    tokens.extend(join_tokens(client).iter().map(as_token));
    if as_json {
        outln!("{:#}", Value::Array(tokens));
        return Ok(());
    }
    if tokens.is_empty() {
        outln!("No tokens. Make one: rask token create");
        return Ok(());
    }
    let time = |token: &Value, field: &str, none: &str| match token.get(field).and_then(Value::as_i64) {
        Some(at_ms) => day(at_ms / 1000),
        None => none.to_owned(),
    };
    let text = |token: &Value, field: &str| token.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let row = |token: &Value| {
        let expired = token.get("expired").and_then(Value::as_bool) == Some(true);
        let end = time(token, "expires_time", "never");
        vec![
            text(token, "id"),
            text(token, "user"),
            text(token, "role"),
            if expired { format!("expired {end}") } else { end },
            time(token, "used_time", "not yet"),
            text(token, "label"),
        ]
    };
    let rows: Vec<Vec<String>> = tokens.iter().map(row).collect();
    out(&table(&["ID", "USER", "ROLE", "EXPIRES", "LAST USED", "LABEL"], &rows));
    Ok(())
}
