//! What pyhost answers, read.

use crate::base::BulkGraph;
use crate::base::Failure;
use crate::base::Limits;
use crate::base::Opaque;
use crate::base::PickledPart;
use crate::base::ShuffleLayout;
use crate::base::ShuffleSpec;
use crate::base::Text;
use crate::base::Value;
use crate::wire::Message;

use super::{AskError, PyhostError};

/// The `result` of an answer, or the failure that it tells.
pub(super) fn result(answer: &Value, id: u64) -> Result<Value, AskError> {
    // An answer without an id is about a request that could not even be read.
    let told = answer.field("id").and_then(Value::as_i64);
    if told.is_some_and(|told| u64::try_from(told) != Ok(id)) {
        return Err(PyhostError::Reply { what: "an answer to another request" }.into());
    }
    match answer.field("ok").and_then(Value::as_bool) {
        Some(true) => Ok(answer.get("result").cloned().unwrap_or_default()),
        Some(false) => Err(AskError::Raised(Failure::Remote {
            exception: answer.get("exception").cloned().unwrap_or_default(),
            traceback: answer.get("traceback").cloned().unwrap_or_default(),
            exception_text: text(answer, "exception_text"),
            traceback_text: text(answer, "traceback_text"),
        })),
        None => Err(PyhostError::Reply { what: "neither a result nor an error" }.into()),
    }
}

fn text(answer: &Value, name: &str) -> Text {
    answer.get(name).and_then(Value::as_str).unwrap_or_default().into()
}

/// A materialised graph. Errors: what is wrong with the answer.
pub(super) fn bulk_graph(result: &Value) -> Result<BulkGraph, &'static str> {
    let list = |name: &str| result.field(name).and_then(Value::items).unwrap_or_default();
    let annotated = list("annotated").iter().map(pair).collect::<Option<Vec<_>>>();
    Ok(BulkGraph {
        nodes: part(result.get("nodes")).ok_or("a graph without its pickle")?,
        annotations: list("annotations").to_vec(),
        annotated: annotated.ok_or("annotations for no task")?,
        shuffles: list("shuffles").iter().map(shuffle).collect::<Option<Vec<_>>>().ok_or("an odd shuffle")?,
    })
}

/// The outline of a graph, or why there is none.
pub(super) fn outline(result: &Value) -> Result<PickledPart, Text> {
    part(result.get("outline"))
        .ok_or_else(|| result.get("reason").and_then(Value::as_str).unwrap_or("no outline").into())
}

fn pair(value: &Value) -> Option<(u32, u32)> {
    let [left, right] = value.items()? else { return None };
    Some((u32::try_from(left.as_i64()?).ok()?, u32::try_from(right.as_i64()?).ok()?))
}

fn shuffle(value: &Value) -> Option<(u32, ShuffleSpec)> {
    let [at, told] = value.items()? else { return None };
    let numbers = |name: &str| told.field(name)?.items()?.iter().map(Value::as_i64).collect::<Option<Vec<_>>>();
    let layout = match told.field("npartitions").and_then(Value::as_i64) {
        Some(npartitions) => ShuffleLayout::DataFrame { npartitions, parts_out: numbers("parts_out")? },
        None => {
            let new_chunks = numbers("new_chunks")?.into_iter().map(usize::try_from).collect::<Result<_, _>>();
            ShuffleLayout::Rechunk { new_chunks: new_chunks.ok()? }
        }
    };
    let id = told.field("id")?.as_str()?.into();
    Some((u32::try_from(at.as_i64()?).ok()?, ShuffleSpec { id, layout, spec: part(told.get("spec"))? }))
}

/// The pickle of a payload that pyhost made, which is never compressed.
fn part(value: Option<&Value>) -> Option<PickledPart> {
    let Some(Value::Pickled(payload)) = value else { return None };
    let Opaque { head, frames } = &**payload;
    let header = Message { head: head.clone(), frames: Vec::new() }.to_value(&Limits::default()).ok()?;
    let pickle = header.field("pickled-obj")?.as_bin()?.clone();
    Some(PickledPart { pickle, buffers: frames.clone() })
}
