//! What is said between a node and its executor, as messages of Dask's framing: typed here, and opened nowhere else.
//!
//! Pure. Payloads stay closed: they are frames in both directions.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::{Key, Limits, Opaque, Text, Value};
use crate::wire::{Encoder, Message, MessageBatch, WireError};

/// Classes of results that a slot names by number after their first use. The same number stands in `slots.py`.
const KINDS_MAX: usize = 256;

fn wrong(what: &'static str) -> WireError {
    WireError::Unexpected { what }
}

// ---- to the executor -----------------------------------------------------------------------------------------------

/// A run for a slot.
#[derive(Clone, Copy, Debug)]
pub struct RunOrder<'a> {
    /// Names this handing over; larger than all before.
    pub stamp: u64,
    /// What is computed.
    pub key: &'a Key,
    /// The pickled task.
    pub spec: &'a Opaque,
    /// For metrics.
    pub span: Option<&'a Text>,
    /// The executor that its annotations name.
    pub executor: Option<&'a str>,
    /// The value becomes an actor.
    pub actor: bool,
    /// Send what is kept back before it begins.
    pub answers_first: bool,
    /// All annotations, if there are any.
    pub annotations: &'a Value,
}

impl RunOrder<'_> {
    /// Appends this run to a slot's next message.
    pub fn put(&self, batch: &mut MessageBatch) {
        batch.push(|out| {
            out.put_array(8);
            out.put_u64(self.stamp);
            out.put_key(self.key);
            out.put_pickled(self.spec);
            put_maybe_str(out, self.span.map(|span| &**span));
            put_maybe_str(out, self.executor);
            out.put_bool(self.actor);
            out.put_bool(self.answers_first);
            out.put_value(self.annotations);
        });
    }
}

fn put_maybe_str(out: &mut Encoder, text: Option<&str>) {
    match text {
        Some(text) => out.put_str(text),
        None => out.put_nil(),
    }
}

/// For the thread that looks after values and slots.
#[derive(Clone, Copy, Debug)]
pub enum ToPorter<'a> {
    /// Forget these values, unless they are younger than this.
    Drop { keys: &'a [Key], upto: u64 },
    /// Take what has not begun out of a slot's queue, and tell by the slot's socket.
    Recall { slot: u32 },
    /// Serialise these values; the answer has this number. Large ones come in files, unless descriptors run short.
    Export { number: u64, keys: &'a [Key], in_files: bool },
    /// Serialise each of these values to a new file with this name; the answer has this number. They stay where they are.
    Spill { number: u64, values: &'a [(Key, String)] },
    /// Give memory back that is not used.
    Trim,
}

impl ToPorter<'_> {
    /// As a message.
    pub fn encode(&self) -> Message {
        let mut out = Encoder::new();
        out.put_array(match self {
            Self::Trim => 1,
            Self::Recall { .. } => 2,
            Self::Drop { .. } | Self::Spill { .. } => 3,
            Self::Export { .. } => 4,
        });
        match self {
            Self::Drop { keys, upto } => {
                out.put_str("drop");
                out.put_keys(keys);
                out.put_u64(*upto);
            }
            Self::Trim => out.put_str("trim"),
            Self::Recall { slot } => {
                out.put_str("recall");
                out.put_u64(u64::from(*slot));
            }
            Self::Export { number, keys, in_files } => {
                out.put_str("export");
                out.put_u64(*number);
                out.put_keys(keys);
                out.put_bool(*in_files);
            }
            Self::Spill { number, values } => {
                out.put_str("spill");
                out.put_u64(*number);
                out.put_array(values.len());
                for (key, path) in *values {
                    out.put_array(2);
                    out.put_key(key);
                    out.put_str(path);
                }
            }
        }
        out.finish()
    }
}

/// For the facade.
#[derive(Clone, Debug)]
pub enum ToControl<'a> {
    /// What it is; the first message.
    Hello(Value),
    /// The scheduler's answer to the registration, as it came.
    Registered(&'a Message),
    /// A peer's message that the node does not know, on its connection of this number.
    Request { connection: u64, peer: &'a Text, message: &'a Message },
    /// That connection is closed.
    Gone { connection: u64 },
    /// An item of the scheduler's stream that the node does not know.
    Stream(&'a Message),
    /// Tell what was measured since the last time.
    Metrics { number: u64 },
    /// A task moved.
    Transition { key: &'a Key, start: &'a str, finish: &'a str },
    /// The worker's state, by its name.
    Status(&'a str),
    /// Wind up and end.
    Close { reason: &'a str },
}

impl ToControl<'_> {
    /// As a message. Frames of a message that is passed on are shared, not copied.
    pub fn encode(&self) -> Message {
        let plain = |parts: &[Value]| Message::from_value(&Value::Array(parts.to_vec()));
        match self {
            Self::Hello(hello) => plain(&["hello".into(), hello.clone()]),
            Self::Registered(reply) => enclose(&["registered".into()], reply),
            Self::Request { connection, peer, message } => {
                enclose(&["request".into(), (*connection).into(), Value::Str((*peer).clone())], message)
            }
            Self::Gone { connection } => plain(&["gone".into(), (*connection).into()]),
            Self::Stream(item) => enclose(&["stream".into()], item),
            Self::Metrics { number } => plain(&["metrics".into(), (*number).into()]),
            Self::Transition { key, start, finish } => {
                plain(&["transition".into(), key.to_value(), (*start).into(), (*finish).into()])
            }
            Self::Status(name) => plain(&["status".into(), (*name).into()]),
            Self::Close { reason } => plain(&["close".into(), (*reason).into()]),
        }
    }
}

/// Words, then the head of a message as bytes; its frames are the frames of the whole, so its references still hold.
fn enclose(words: &[Value], inner: &Message) -> Message {
    let mut out = Encoder::new();
    out.put_array(words.len().saturating_add(1));
    for word in words {
        out.put_value(word);
    }
    out.put_bin(&inner.head);
    Message { frames: inner.frames.clone(), ..out.finish() }
}

/// Where the bytes of a value are that a message is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// There is no such value.
    Nowhere,
    /// In the message.
    Inline(Arc<Opaque>),
    /// In a file, whose descriptor comes with the message, in this order: the sub-header, and the frames' lengths. What is on
    /// a disk is read, and what is in memory mapped.
    InFile { head: Bytes, lengths: Vec<u64>, on_disk: bool },
    /// It cannot be read any more.
    Lost,
}

/// The answer to [`Inquiry::Frames`]: what stems from this order, and where each value is.
pub fn inquiry_answer(stamp: u64, places: &[Place]) -> Message {
    let mut out = Encoder::new();
    out.put_array(2);
    out.put_u64(stamp);
    out.put_array(places.len());
    for place in places {
        match place {
            Place::Nowhere => out.put_nil(),
            Place::Inline(payload) => out.put_serialized(payload),
            Place::Lost => out.put_bool(false),
            Place::InFile { head, lengths, on_disk } => {
                out.put_array(3);
                out.put_bin(head);
                out.put_array(lengths.len());
                lengths.iter().for_each(|length| out.put_u64(*length));
                out.put_bool(*on_disk);
            }
        }
    }
    out.finish()
}

// ---- from the executor ---------------------------------------------------------------------------------------------

/// A list with an operation's name first.
struct Words(std::vec::IntoIter<Value>);

impl Words {
    fn of(value: Value) -> Result<Self, WireError> {
        match value {
            Value::Array(items) => Ok(Self(items.into_iter())),
            _ => Err(wrong("a list")),
        }
    }

    fn next(&mut self) -> Result<Value, WireError> {
        self.0.next().ok_or(wrong("more fields"))
    }

    fn text(&mut self) -> Result<Text, WireError> {
        match self.next()? {
            Value::Str(text) => Ok(text),
            _ => Err(wrong("text")),
        }
    }

    fn number(&mut self) -> Result<u64, WireError> {
        self.next()?.as_i64().and_then(|number| u64::try_from(number).ok()).ok_or(wrong("a number"))
    }

    fn secs(&mut self) -> Result<f64, WireError> {
        self.next()?.as_f64().filter(|secs| secs.is_finite()).ok_or(wrong("a time"))
    }

    fn keys(&mut self) -> Result<Vec<Key>, WireError> {
        self.next()?.as_keys().ok_or(wrong("keys"))
    }
}

/// News of a slot, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum SlotNews {
    /// A run ended.
    Ended(Box<RunEnd>),
    /// The run seceded from the slot after this long; the slot goes on with the next one.
    Seceded { stamp: u64, secs: f64 },
    /// A run that had seceded has this slot now.
    Rejoined { stamp: u64 },
    /// These runs were taken back.
    Recalled { stamps: Vec<u64> },
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunEnd {
    /// Which handing over.
    pub stamp: u64,
    /// Wall time. Unit: seconds since the epoch.
    pub start: f64,
    /// Wall time. Unit: seconds since the epoch.
    pub stop: f64,
    /// As Python names it.
    pub thread: i64,
    /// What came of it.
    pub result: RunResult,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum RunResult {
    /// The value is in the executor.
    Success {
        /// Unit: bytes.
        size_bytes: u64,
        /// Pickled class.
        kind: Bytes,
        /// Name of the class.
        typename: Text,
        /// The value itself, if it is small.
        value: Option<Arc<Opaque>>,
    },
    /// The task raised an exception: pickles, and texts.
    Failure { exception: Bytes, traceback: Option<Bytes>, exception_text: Text, traceback_text: Text },
    /// It raised `Reschedule`.
    Reschedule,
}

/// Classes that a slot has named so far.
#[derive(Clone, Debug, Default)]
pub struct KindTable(Vec<(Bytes, Text)>);

impl KindTable {
    /// A message of a slot.
    pub fn slot_news(&mut self, message: &Message, limits: &Limits) -> Result<Vec<SlotNews>, WireError> {
        let Value::Array(entries) = message.to_value(limits)? else { return Err(wrong("a list of news")) };
        entries.into_iter().map(|entry| self.one(Words::of(entry)?)).collect()
    }

    fn one(&mut self, mut words: Words) -> Result<SlotNews, WireError> {
        let op = words.text()?;
        Ok(match &*op {
            "ok" => SlotNews::Ended(Box::new(self.success(words)?)),
            "erred" => SlotNews::Ended(Box::new(failure(words)?)),
            "reschedule" => SlotNews::Ended(Box::new(RunEnd {
                stamp: words.number()?,
                start: 0.0,
                stop: 0.0,
                thread: 0,
                result: RunResult::Reschedule,
            })),
            "seceded" => SlotNews::Seceded { stamp: words.number()?, secs: words.secs()? },
            "rejoined" => SlotNews::Rejoined { stamp: words.number()? },
            "recalled" => {
                let stamps = words.next()?;
                let stamp = |value: &Value| value.as_i64().and_then(|number| u64::try_from(number).ok());
                let stamps = stamps.items().and_then(|items| items.iter().map(stamp).collect::<Option<Vec<u64>>>());
                SlotNews::Recalled { stamps: stamps.ok_or(wrong("a list of stamps"))? }
            }
            _ => return Err(wrong("news of a slot")),
        })
    }

    fn success(&mut self, mut words: Words) -> Result<RunEnd, WireError> {
        let (stamp, start, stop) = (words.number()?, words.secs()?, words.secs()?);
        let thread = words.next()?.as_i64().unwrap_or_default();
        let size_bytes = words.number()?;
        let (kind, typename) = self.kind(words.next()?)?;
        let value = match words.next()? {
            Value::Serialized(payload) => Some(payload),
            _ => None,
        };
        Ok(RunEnd { stamp, start, stop, thread, result: RunResult::Success { size_bytes, kind, typename, value } })
    }

    fn kind(&mut self, named: Value) -> Result<(Bytes, Text), WireError> {
        match named {
            Value::Array(pair) => {
                let mut words = Words(pair.into_iter());
                let Value::Bin(kind) = words.next()? else { return Err(wrong("a pickled class")) };
                let pair = (kind, words.text()?);
                if self.0.len() < KINDS_MAX {
                    self.0.push(pair.clone());
                }
                Ok(pair)
            }
            number => {
                let at = number.as_i64().and_then(|number| usize::try_from(number).ok());
                at.and_then(|at| self.0.get(at)).cloned().ok_or(wrong("the number of a class"))
            }
        }
    }
}

fn failure(mut words: Words) -> Result<RunEnd, WireError> {
    let (stamp, start, stop) = (words.number()?, words.secs()?, words.secs()?);
    let thread = words.next()?.as_i64().unwrap_or_default();
    let Value::Bin(exception) = words.next()? else { return Err(wrong("a pickled exception")) };
    let traceback = words.next()?.as_bin().cloned();
    let (exception_text, traceback_text) = (words.text()?, words.text()?);
    let result = RunResult::Failure { exception, traceback, exception_text, traceback_text };
    Ok(RunEnd { stamp, start, stop, thread, result })
}

/// News of the porter, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum PorterNews {
    /// Values that were serialised: the number of the request, and what came of each key of it.
    Exported { number: u64, places: Vec<Place> },
    /// Values that were written to files.
    Spilled { number: u64, outcomes: Vec<SpillOutcome> },
}

/// What came of writing a value to a file.
#[derive(Clone, Debug, PartialEq)]
pub enum SpillOutcome {
    /// It was not there any more.
    Gone,
    /// It is there: the sub-header, and the frames' lengths.
    Written { head: Bytes, lengths: Vec<u64> },
    /// The file could not be written, and was removed.
    Full { why: Text },
    /// It cannot be serialised.
    Unwilling { why: Text },
}

impl PorterNews {
    /// A message of the porter.
    pub fn decode(message: &Message, limits: &Limits) -> Result<Self, WireError> {
        let mut words = Words::of(message.to_value(limits)?)?;
        let op = words.text()?;
        let number = words.number()?;
        let Value::Array(items) = words.next()? else { return Err(wrong("a list")) };
        let items = items.into_iter();
        Ok(match &*op {
            "exported" => Self::Exported { number, places: items.map(place).collect::<Result<_, _>>()? },
            "spilled" => Self::Spilled { number, outcomes: items.map(spill_outcome).collect::<Result<_, _>>()? },
            _ => return Err(wrong("news of the porter")),
        })
    }
}

fn place(value: Value) -> Result<Place, WireError> {
    match value {
        Value::Nil => Ok(Place::Nowhere),
        Value::Serialized(payload) => Ok(Place::Inline(payload)),
        pair => {
            let (head, lengths) = frames_of(Words::of(pair)?)?;
            Ok(Place::InFile { head, lengths, on_disk: false })
        }
    }
}

fn spill_outcome(value: Value) -> Result<SpillOutcome, WireError> {
    if value == Value::Nil {
        return Ok(SpillOutcome::Gone);
    }
    let mut words = Words::of(value)?;
    Ok(match &*words.text()? {
        "written" => {
            let (head, lengths) = frames_of(words)?;
            SpillOutcome::Written { head, lengths }
        }
        "full" => SpillOutcome::Full { why: words.text()? },
        _ => SpillOutcome::Unwilling { why: words.text()? },
    })
}

/// A sub-header, and the frames' lengths.
fn frames_of(mut words: Words) -> Result<(Bytes, Vec<u64>), WireError> {
    let Value::Bin(head) = words.next()? else { return Err(wrong("a sub-header")) };
    let length = |length: &Value| length.as_i64().and_then(|length| u64::try_from(length).ok());
    let lengths = words.next()?.items().and_then(|items| items.iter().map(length).collect());
    Ok((head, lengths.ok_or(wrong("lengths"))?))
}

/// News of the facade.
#[derive(Clone, Debug, PartialEq)]
pub enum FacadeNews {
    /// It can serve: Dask's settings, its folder, and the answer of `get_versions`.
    Ready { settings: Value, local_directory: Text, versions: Message },
    /// This Dask is not what it is made for; it ends.
    Unfit { reason: Text },
    /// Plugins are set up.
    Plugged,
    /// What to say to a peer on the connection of this number.
    Answer { connection: u64, message: Message },
    /// Close that connection.
    Hangup { connection: u64 },
    /// For the scheduler, up the stream.
    Send(Message),
    /// A thread wants to come back: wake the idle ones.
    Nudge,
    /// New totals.
    Resources(Vec<(Text, f64)>),
    /// A plugin wants to hear of moves.
    Subscribed(bool),
    /// What was measured.
    Metrics { number: u64, told: Message },
    /// User code set the worker's state.
    Status(Text),
    /// User code set other limits of memory: shares of the limit, and the limit, as [`FacadeNews::Ready`] has them.
    Limits(Value),
    /// User code closes the worker, for good or for another one to take its place.
    Close { reason: Text, restart: bool },
}

impl FacadeNews {
    /// A message of the facade.
    pub fn decode(message: &Message, limits: &Limits) -> Result<Self, WireError> {
        // Payload references are within the inner head, which is bytes here.
        let head = Message { head: message.head.clone(), frames: Vec::new() };
        let mut words = Words::of(head.to_value(limits)?)?;
        let inner = |words: &mut Words| match words.next()? {
            Value::Bin(head) => Ok(Message { head, frames: message.frames.clone() }),
            _ => Err(wrong("a message")),
        };
        let op = words.text()?;
        Ok(match &*op {
            "ready" => {
                Self::Ready { settings: words.next()?, local_directory: words.text()?, versions: inner(&mut words)? }
            }
            "unfit" => Self::Unfit { reason: words.text()? },
            "plugged" => Self::Plugged,
            "answer" => Self::Answer { connection: words.number()?, message: inner(&mut words)? },
            "hangup" => Self::Hangup { connection: words.number()? },
            "send" => Self::Send(inner(&mut words)?),
            "nudge" => Self::Nudge,
            "resources" => Self::Resources(amounts(&words.next()?).ok_or(wrong("amounts"))?),
            "subscribed" => Self::Subscribed(words.next()?.as_bool().unwrap_or_default()),
            "metrics" => Self::Metrics { number: words.number()?, told: inner(&mut words)? },
            "status" => Self::Status(words.text()?),
            "limits" => Self::Limits(words.next()?),
            "close" => Self::Close { reason: words.text()?, restart: words.next()?.as_bool().unwrap_or_default() },
            _ => return Err(wrong("news of the facade")),
        })
    }
}

fn amounts(value: &Value) -> Option<Vec<(Text, f64)>> {
    let amount = |(name, amount): &(Value, Value)| Some((Text::from(name.as_str()?), amount.as_f64()?));
    value.fields()?.iter().map(amount).collect()
}

fn texts(value: &Value) -> Option<Vec<(Text, Text)>> {
    let pair = |(name, value): &(Value, Value)| Some((Text::from(name.as_str()?), Text::from(value.as_str()?)));
    value.fields()?.iter().map(pair).collect()
}

fn sizes(value: &Value) -> Option<Vec<(Key, u64)>> {
    let pair = |pair: &Value| match pair.items()? {
        [key, size] => Some((key.as_key()?, u64::try_from(size.as_i64()?).ok()?)),
        _ => None,
    };
    value.items()?.iter().map(pair).collect()
}

/// What the executor asks and waits for.
#[derive(Clone, Debug, PartialEq)]
pub enum Inquiry {
    /// The bytes of these values, as far as the node has them; large ones in files, unless descriptors run short.
    Frames { keys: Vec<Key>, in_files: bool },
    /// Is this value held?
    Has(Key),
    /// Which values are held.
    Keys,
    /// All tasks: key, state, size.
    Tasks,
    /// The last moves of tasks: key, from, to, when by the wall clock.
    Log,
    /// `nbytes` or `executing`.
    Number(Text),
    /// The bytes of these values could not be read.
    Lost(Vec<Key>),
    /// These values came to be in the executor without a run; their sizes in bytes. Answered when others may ask for them.
    Held(Vec<(Key, u64)>),
    /// A nanny's plugins set these variables and folders of modules for the next executor.
    Environ { vars: Vec<(Text, Text)>, path: Vec<Text> },
    /// Asked by a nanny: address and process id of its worker, if that is up.
    Worker,
}

impl Inquiry {
    /// A message of the socket for questions.
    pub fn decode(message: &Message, limits: &Limits) -> Result<Self, WireError> {
        let mut words = Words::of(message.to_value(limits)?)?;
        let op = words.text()?;
        Ok(match &*op {
            "frames" => Self::Frames { keys: words.keys()?, in_files: words.next()?.as_bool().unwrap_or_default() },
            "lost" => Self::Lost(words.keys()?),
            "has" => Self::Has(words.next()?.as_key().ok_or(wrong("a key"))?),
            "keys" => Self::Keys,
            "tasks" => Self::Tasks,
            "log" => Self::Log,
            "worker" => Self::Worker,
            "number" => Self::Number(words.text()?),
            "held" => Self::Held(sizes(&words.next()?).ok_or(wrong("keys with sizes"))?),
            "environ" => {
                let vars = texts(&words.next()?).ok_or(wrong("variables"))?;
                let path = words.next()?;
                let path =
                    path.items().and_then(|items| items.iter().map(|item| item.as_str().map(Text::from)).collect());
                Self::Environ { vars, path: path.ok_or(wrong("a list of folders"))? }
            }
            _ => return Err(wrong("a question")),
        })
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
