//! What clients ask of events, semaphores, multi-locks, queues, variables and published datasets.
//!
//! `alice calls event-wait e timeout=5s`; the words are the names of Dask's operations with `-` for `_`.

use rask::base::{Key, Value};
use rask::sched::coord::{CoordRequest, Item, QueueBatch};

use super::play::{Line, keys_of};

fn item(line: &Line) -> Result<Item, String> {
    match line.option("future") {
        Some(name) => Ok(Item::Future(Key::text(name))),
        None => {
            let word = line.word(1)?;
            Ok(Item::Data(word.parse::<i64>().map_or_else(|_| Value::str(word), Value::Int)))
        }
    }
}

/// The request that `alice calls OPERATION NAME ...` means.
pub fn request(operation: &str, line: &Line) -> Result<CoordRequest, String> {
    let name = || line.word(0).map(Key::text);
    let timeout = line.option("timeout").map(super::play::measure).transpose()?;
    let number = |option: &str, default: i64| {
        line.option(option).map_or(Ok(default), |text| text.parse().map_err(|_| format!("no number: {text}")))
    };
    let lease_id = || line.option("lease").map(Key::text).ok_or("no lease=".to_owned());
    let keys = |option: &str| keys_of(line.option(option).unwrap_or_default());
    Ok(match operation {
        "event-wait" => CoordRequest::EventWait { name: name()?, timeout },
        "event-set" => CoordRequest::EventSet { name: name()? },
        "event-clear" => CoordRequest::EventClear { name: name()? },
        "semaphore-register" => CoordRequest::SemaphoreRegister {
            name: name()?,
            max_leases: number("max", 1)?,
            lease_timeout: line.option("lease-timeout").map(super::play::measure).transpose()?,
        },
        "semaphore-acquire" => CoordRequest::SemaphoreAcquire { name: name()?, timeout, lease_id: lease_id()? },
        "semaphore-release" => CoordRequest::SemaphoreRelease { name: name()?, lease_id: lease_id()? },
        "multi-lock-acquire" => {
            let count = line.option("count").map(|_| number("count", 0)).transpose()?;
            let num_locks = count.and_then(|count| usize::try_from(count).ok());
            CoordRequest::MultiLockAcquire { locks: keys("locks")?, id: name()?, timeout, num_locks }
        }
        "multi-lock-release" => CoordRequest::MultiLockRelease { id: name()? },
        "queue-create" => {
            CoordRequest::QueueCreate { name: name()?, maxsize: usize::try_from(number("max", 0)?).unwrap_or(0) }
        }
        "queue-put" => CoordRequest::QueuePut { name: name()?, item: item(line)?, timeout },
        "queue-get" => CoordRequest::QueueGet { name: name()?, timeout, batch: QueueBatch::One },
        "queue-release" => CoordRequest::QueueRelease { name: name()? },
        "variable-set" => CoordRequest::VariableSet { name: name()?, item: item(line)?, timeout },
        "variable-get" => CoordRequest::VariableGet { name: name()?, timeout },
        "variable-delete" => CoordRequest::VariableDelete { name: name()? },
        "publish-put" => CoordRequest::PublishPut {
            names: vec![name()?],
            keys: vec![keys("keys")?],
            data: vec![Value::Nil],
            overwrite: line.has("overwrite"),
        },
        "publish-delete" => CoordRequest::PublishDelete { names: vec![name()?] },
        other => return Err(format!("no operation {other}")),
    })
}
