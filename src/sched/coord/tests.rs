//! The primitives in virtual time: requests in, answers out, every rule checked after each step.

use std::collections::BTreeMap;

use super::*;
use crate::base::{Failure, PyError, Rng};

#[derive(Default)]
struct World(BTreeMap<Key, (&'static str, Option<Failure>)>);

impl KeyWorld for World {
    fn key_state(&self, key: &Key) -> Option<(&'static str, Option<&Failure>)> {
        self.0.get(key).map(|(state, failure)| (*state, failure.as_ref()))
    }
}

struct Harness {
    coord: Coord,
    world: World,
    now: Now,
    calls: CallId,
    answers: BTreeMap<CallId, Result<Value, PyError>>,
    /// Desires and releases, as text: `+client key` and `-client key`.
    wants: Vec<String>,
}

fn key(text: &str) -> Key {
    Key::text(text)
}
fn data(number: i64) -> Item {
    Item::Data(Value::Int(number))
}
fn future(text: &str) -> Item {
    Item::Future(key(text))
}
fn msgpack(number: i64) -> Value {
    Value::map([("type", "msgpack".into()), ("value", number.into())])
}

impl Harness {
    fn new() -> Self {
        let coord = Coord::new(10.0);
        Self { coord, world: World::default(), now: Now(0), calls: 0, answers: BTreeMap::new(), wants: Vec::new() }
    }

    fn settle(&mut self, wishes: Vec<CoordWish>) {
        for wish in wishes {
            match wish {
                CoordWish::Answer(call, answer) => {
                    assert!(self.answers.insert(call, answer).is_none(), "call {call} was answered twice");
                }
                CoordWish::Desire(client, keys) => self.wants.extend(keys.iter().map(|key| format!("+{client} {key}"))),
                CoordWish::Release(client, keys) => {
                    self.wants.extend(keys.iter().map(|key| format!("-{client} {key}")))
                }
            }
        }
        self.coord.check().expect("the rules hold");
    }

    fn ask_as(&mut self, client: &str, request: CoordRequest) -> CallId {
        self.calls += 1;
        let mut wishes = Vec::new();
        self.coord.on_request(self.now, self.calls, Some(&client.into()), request, &self.world, &mut wishes);
        self.settle(wishes);
        self.calls
    }

    fn ask(&mut self, request: CoordRequest) -> CallId {
        self.ask_as("me", request)
    }

    fn get(&mut self, request: CoordRequest) -> Result<Value, PyError> {
        let call = self.ask(request);
        self.answers.remove(&call).expect("answered at once")
    }

    fn answer(&mut self, call: CallId) -> Option<Result<Value, PyError>> {
        self.answers.remove(&call)
    }

    /// Lets time pass, waking only when asked to be woken.
    fn sleep(&mut self, seconds: f64) {
        let until = self.now.plus_secs(seconds);
        while let Some(at) = self.coord.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let mut wishes = Vec::new();
            self.coord.on_tick(self.now, &self.world, &mut wishes);
            self.settle(wishes);
        }
        self.now = until;
    }

    fn abandon(&mut self, call: CallId) {
        let mut wishes = Vec::new();
        self.coord.on_abandoned(call, &mut wishes);
        self.settle(wishes);
    }

    fn task(&mut self, name: &str, state: &'static str) {
        let key = key(name);
        self.world.0.insert(key.clone(), (state, None));
        let mut wishes = Vec::new();
        self.coord.on_key_known(self.now, &key, &self.world, &mut wishes);
        self.settle(wishes);
    }

    fn wants(&mut self) -> Vec<String> {
        std::mem::take(&mut self.wants)
    }
}

fn put(name: &str, item: Item, timeout: Option<f64>) -> CoordRequest {
    CoordRequest::QueuePut { name: key(name), item, timeout }
}
fn take(name: &str, timeout: Option<f64>, batch: QueueBatch) -> CoordRequest {
    CoordRequest::QueueGet { name: key(name), timeout, batch }
}
fn queue(harness: &mut Harness, maxsize: usize) {
    assert_eq!(harness.get(CoordRequest::QueueCreate { name: key("q"), maxsize }), Ok(Value::Nil));
}
fn acquire(timeout: Option<f64>, lease: &str) -> CoordRequest {
    CoordRequest::SemaphoreAcquire { name: key("s"), timeout, lease_id: key(lease) }
}
fn release(lease: &str) -> CoordRequest {
    CoordRequest::SemaphoreRelease { name: key("s"), lease_id: key(lease) }
}
fn semaphore(harness: &mut Harness, max_leases: i64) {
    let request = CoordRequest::SemaphoreRegister { name: key("s"), max_leases, lease_timeout: Some(30.0) };
    assert_eq!(harness.get(request), Ok(Value::Nil));
}
fn lock(locks: &[&str], id: &str, count: usize) -> CoordRequest {
    let locks = locks.iter().map(|lock| key(lock)).collect();
    CoordRequest::MultiLockAcquire { locks, id: key(id), timeout: None, num_locks: Some(count) }
}

const YES: Option<Result<Value, PyError>> = Some(Ok(Value::Bool(true)));
const NO: Option<Result<Value, PyError>> = Some(Ok(Value::Bool(false)));
const DONE: Option<Result<Value, PyError>> = Some(Ok(Value::Nil));

#[test]
fn an_event_wakes_everyone_who_waits_and_nobody_after_it_was_cleared() {
    let mut harness = Harness::new();
    let name = || key("e");
    let first = harness.ask(CoordRequest::EventWait { name: name(), timeout: None });
    let second = harness.ask(CoordRequest::EventWait { name: name(), timeout: Some(1.0) });
    let gone = harness.ask(CoordRequest::EventWait { name: name(), timeout: None });
    harness.abandon(gone);
    harness.sleep(2.0);
    assert_eq!((harness.answer(first), harness.answer(second)), (None, NO));
    harness.get(CoordRequest::EventSet { name: name() }).expect("set");
    assert_eq!((harness.answer(first), harness.answer(gone)), (YES, None));
    assert_eq!(harness.get(CoordRequest::EventIsSet { name: name() }), Ok(Value::Bool(true)));
    assert_eq!(harness.get(CoordRequest::EventClear { name: name() }), Ok(Value::Nil));
    assert_eq!(harness.get(CoordRequest::EventWait { name: name(), timeout: Some(0.0) }), Ok(Value::Bool(false)));
    assert_eq!(harness.coord.next_deadline(), None);
}

#[test]
fn leases_are_given_in_the_order_they_were_asked_for() {
    let mut harness = Harness::new();
    semaphore(&mut harness, 1);
    assert_eq!(harness.get(acquire(None, "a")), Ok(Value::Bool(true)));
    assert_eq!(harness.get(acquire(None, "a")), Ok(Value::Bool(true)), "asking again for a held lease is harmless");
    let [b, c, d] = ["b", "c", "d"].map(|lease| harness.ask(acquire(None, lease)));
    let retried = harness.ask(acquire(None, "b"));
    harness.abandon(c);
    harness.get(release("a")).expect("released");
    assert_eq!((harness.answer(b), harness.answer(retried), harness.answer(d)), (YES, YES, None));
    let view = SemaphoreView {
        name: key("s"),
        max_leases: 1,
        active: 1,
        pending: 1,
        acquired: 3,
        released: 1,
        pending_secs: 0.0,
        holders: vec![key("b")],
    };
    assert_eq!(harness.coord.semaphores(), [view]);
    harness.get(release("b")).expect("released");
    assert_eq!((harness.answer(c), harness.answer(d)), (None, YES), "who is gone takes no lease");
    assert_eq!(harness.get(release("b")), Ok(Value::Nil), "releasing twice is harmless");
    assert_eq!(harness.get(acquire(Some(0.0), "e")), Ok(Value::Bool(false)));
    let late = harness.ask(acquire(Some(2.5), "f"));
    harness.sleep(2.6);
    assert_eq!(harness.answer(late), NO);
}

#[test]
fn a_lease_that_is_not_refreshed_goes_to_the_next_in_line() {
    let mut harness = Harness::new();
    semaphore(&mut harness, 1);
    harness.get(acquire(None, "a")).expect("free");
    let next = harness.ask(acquire(None, "b"));
    harness.sleep(25.0);
    let refresh = CoordRequest::SemaphoreRefresh { name: key("s"), lease_ids: vec![key("a")] };
    harness.get(refresh.clone()).expect("refreshed");
    harness.sleep(30.0);
    assert_eq!(harness.answer(next), None, "refreshed leases live on");
    harness.sleep(10.1);
    assert_eq!(harness.answer(next), YES);
    harness.get(refresh).expect("a lease that ran out is taken again: its holder believes in it");
    assert_eq!(harness.get(CoordRequest::SemaphoreValue { name: key("s") }), Ok(Value::Int(2)));
    harness.sleep(100.0);
    assert_eq!(harness.get(CoordRequest::SemaphoreValue { name: key("s") }), Ok(Value::Int(0)));
    assert_eq!(harness.coord.next_deadline(), None, "no leases, no wake-ups");
}

#[test]
fn a_semaphore_is_what_it_was_registered_as_and_unknown_once_closed() {
    let mut harness = Harness::new();
    let unknown = Err(PyError::builtin("RuntimeError", "Semaphore or Lock `s` not known."));
    assert_eq!(harness.get(acquire(None, "a")), unknown);
    semaphore(&mut harness, 1);
    let other = CoordRequest::SemaphoreRegister { name: key("s"), max_leases: 2, lease_timeout: None };
    assert_eq!(harness.get(other), Err(PyError::builtin("ValueError", "Inconsistent max leases: 2, expected: 1")));
    harness.get(acquire(None, "a")).expect("free");
    let waiting = harness.ask(acquire(None, "b"));
    harness.get(CoordRequest::SemaphoreClose { name: key("s") }).expect("closed");
    assert_eq!(harness.answer(waiting), Some(unknown));
    assert_eq!(harness.coord.next_deadline(), None);
}

#[test]
fn a_multi_lock_waits_until_it_heads_enough_lines() {
    let mut harness = Harness::new();
    assert_eq!(harness.get(lock(&["x", "y", "z"], "one", 1)), Ok(Value::Bool(true)));
    assert_eq!(harness.get(lock(&["x", "y", "z"], "two", 1)), Ok(Value::Bool(true)), "it takes another lock");
    let three = harness.ask(lock(&["x", "y", "z", "w"], "three", 4));
    let behind = harness.ask(lock(&["w"], "four", 1));
    harness.get(CoordRequest::MultiLockRelease { id: key("one") }).expect("released");
    assert_eq!(harness.answer(three), None);
    harness.get(CoordRequest::MultiLockRelease { id: key("two") }).expect("released");
    assert_eq!((harness.answer(three), harness.answer(behind)), (YES, None));
    harness.get(CoordRequest::MultiLockRelease { id: key("three") }).expect("released");
    assert_eq!(harness.answer(behind), YES);
    let missing = CoordRequest::MultiLockRelease { id: key("three") };
    assert_eq!(harness.get(missing), Err(PyError::MissingKey(Value::str("three"))));
    assert_eq!(harness.get(lock(&["x"], "five", 2)), Err(PyError::builtin("AssertionError", "")));
}

#[test]
fn a_multi_lock_that_gives_up_lets_those_behind_it_pass() {
    let mut harness = Harness::new();
    assert_eq!(harness.get(lock(&["x"], "holder", 1)), Ok(Value::Bool(true)));
    let locks = || vec![key("x"), key("y")];
    let timed = CoordRequest::MultiLockAcquire { locks: locks(), id: key("b"), timeout: Some(1.0), num_locks: None };
    let timed = harness.ask(timed);
    let gone = harness.ask(lock(&["x", "y"], "c", 2));
    let last = harness.ask(lock(&["y"], "d", 1));
    harness.sleep(2.0);
    assert_eq!((harness.answer(timed), harness.answer(last)), (NO, None));
    harness.abandon(gone);
    assert_eq!(harness.answer(last), YES);
    let now = CoordRequest::MultiLockAcquire { locks: locks(), id: key("e"), timeout: Some(0.0), num_locks: None };
    assert_eq!(harness.get(now), Ok(Value::Bool(false)));
}

#[test]
fn a_queue_serves_getters_and_putters_in_order_and_never_holds_more_than_its_size() {
    let mut harness = Harness::new();
    assert_eq!(harness.get(put("q", data(0), None)), Err(PyError::MissingKey(Value::str("q"))));
    assert_eq!(harness.get(take("q", None, QueueBatch::One)), Err(PyError::MissingKey(Value::str("q"))));
    queue(&mut harness, 2);
    let [first, second, third] =
        [None, Some(1.0), None].map(|timeout| harness.ask(take("q", timeout, QueueBatch::One)));
    harness.sleep(1.5);
    assert_eq!(harness.answer(second), Some(Err(PyError::builtin("TimeoutError", ""))));
    for number in 1..=4 {
        assert_eq!(harness.get(put("q", data(number), None)), Ok(Value::Nil));
    }
    assert_eq!((harness.answer(first), harness.answer(third)), (Some(Ok(msgpack(1))), Some(Ok(msgpack(2)))));
    let [fifth, sixth] = [5, 6].map(|number| harness.ask(put("q", data(number), None)));
    assert_eq!(harness.get(put("q", data(7), Some(0.0))), Err(PyError::builtin("TimeoutError", "")));
    assert_eq!(harness.get(CoordRequest::QueueSize { name: key("q") }), Ok(Value::Int(2)));
    harness.abandon(fifth);
    assert_eq!(harness.get(take("q", Some(0.0), QueueBatch::One)), Ok(msgpack(3)));
    assert_eq!((harness.answer(fifth), harness.answer(sixth)), (None, DONE));
    assert_eq!(harness.get(take("q", None, QueueBatch::All)), Ok(Value::Array(vec![msgpack(4), msgpack(6)])));
    assert_eq!(harness.get(take("q", None, QueueBatch::All)), Ok(Value::Array(vec![])));
}

#[test]
fn a_batch_larger_than_the_queue_fills_up_and_gives_back_what_it_had_when_its_asker_dies() {
    let mut harness = Harness::new();
    queue(&mut harness, 1);
    let batch = harness.ask(take("q", None, QueueBatch::Count(3)));
    let other = harness.ask(take("q", None, QueueBatch::Count(3)));
    for number in 1..=2 {
        assert_eq!(harness.get(put("q", data(number), None)), Ok(Value::Nil));
    }
    harness.abandon(batch);
    assert_eq!(harness.coord.next_deadline(), Some(Now(0)), "the elements wait for the next tick");
    harness.sleep(0.0);
    assert_eq!(harness.get(put("q", data(3), None)), Ok(Value::Nil));
    assert_eq!(harness.answer(other), Some(Ok(Value::Array(vec![msgpack(1), msgpack(2), msgpack(3)]))));
    let refused = harness.get(take("q", Some(1.0), QueueBatch::Count(2)));
    assert!(matches!(refused, Err(PyError::Builtin { class, .. }) if &*class == "NotImplementedError"));
}

#[test]
fn a_future_in_a_queue_is_wanted_until_every_receiver_wants_it_itself() {
    let mut harness = Harness::new();
    queue(&mut harness, 0);
    let early = harness.ask(put("q", future("x"), None));
    let late = harness.ask(put("q", future("y"), Some(1.0)));
    assert!(harness.coord.awaits_keys());
    harness.task("x", "memory");
    assert_eq!(harness.answer(early), DONE);
    harness.sleep(2.0);
    assert_eq!(harness.answer(late), Some(Err(PyError::builtin("TimeoutError", "Task y unknown to scheduler."))));
    assert!(!harness.coord.awaits_keys());
    harness.get(put("q", future("x"), None)).expect("put again");
    assert_eq!(harness.wants(), ["+queue-q x", "+queue-q x"]);
    let record = Value::map([("type", "Future".into()), ("value", "x".into()), ("state", "memory".into())]);
    assert_eq!(harness.get(take("q", None, QueueBatch::One)), Ok(record));
    let confirm = || CoordRequest::QueueFutureRelease { name: key("q"), key: key("x") };
    harness.get(confirm()).expect("confirmed");
    assert_eq!(harness.wants(), ["+me x"]);
    harness.get(CoordRequest::QueueCreate { name: key("q"), maxsize: 0 }).expect("a second user");
    harness.get(CoordRequest::QueueRelease { name: key("q") }).expect("and it leaves");
    assert_eq!(harness.wants(), [""; 0]);
    let waiting = harness.ask(take("q", None, QueueBatch::Count(5)));
    harness.get(CoordRequest::QueueRelease { name: key("q") }).expect("the last leaves");
    assert_eq!(harness.wants(), ["-queue-q x"]);
    assert_eq!(harness.answer(waiting), Some(Err(PyError::MissingKey(Value::str("q")))));
    harness.get(confirm()).expect("late news is harmless");
}

#[test]
fn a_put_that_gives_up_lets_its_future_go() {
    let mut harness = Harness::new();
    queue(&mut harness, 1);
    harness.task("x", "processing");
    harness.get(put("q", data(1), None)).expect("room");
    let [timed, gone] = [Some(1.0), None].map(|timeout| harness.ask(put("q", future("x"), timeout)));
    harness.abandon(gone);
    harness.sleep(2.0);
    assert_eq!(harness.answer(timed), Some(Err(PyError::builtin("TimeoutError", ""))));
    assert_eq!(harness.wants(), ["+queue-q x", "+queue-q x", "-queue-q x"]);
}

#[test]
fn readers_of_futures_learn_how_they_stand() {
    let mut harness = Harness::new();
    queue(&mut harness, 0);
    let [exception, traceback] = [b"boom", b"line"].map(|text| Value::Bin(bytes::Bytes::from_static(text)));
    let remote = Failure::Remote {
        exception: exception.clone(),
        traceback: traceback.clone(),
        exception_text: "boom".into(),
        traceback_text: "line".into(),
    };
    let ours = Failure::Raised(PyError::builtin("KeyError", "x"));
    for (name, state, failure) in [("a", "erred", Some(remote)), ("b", "erred", Some(ours)), ("c", "memory", None)] {
        harness.world.0.insert(key(name), (state, failure));
        harness.get(put("q", future(name), None)).expect("known");
    }
    harness.world.0.remove(&key("c"));
    let answer = harness.get(take("q", None, QueueBatch::All)).expect("three");
    let fields = |at: usize| {
        let record = answer.items().and_then(|items| items.get(at)).expect("a record");
        ["state", "exception", "traceback"].map(|field| record.get(field).cloned())
    };
    assert_eq!(fields(0), [Some("erred".into()), Some(exception), Some(traceback)]);
    assert_eq!(fields(1), [Some("erred".into()), Some(Value::Nil), Some(Value::Nil)]);
    assert_eq!(fields(2), [Some("lost".into()), None, None]);
}

fn set(item: Item, timeout: Option<f64>) -> CoordRequest {
    CoordRequest::VariableSet { name: key("v"), item, timeout }
}
fn read(timeout: Option<f64>) -> CoordRequest {
    CoordRequest::VariableGet { name: key("v"), timeout }
}
fn confirm(name: &str, record: &Value) -> CoordRequest {
    let token = record.get("token").and_then(Value::as_str).expect("a token").into();
    CoordRequest::VariableConfirm { name: key("v"), key: key(name), token }
}

#[test]
fn a_variable_keeps_its_old_future_until_all_readers_want_it_themselves() {
    let mut harness = Harness::new();
    harness.task("x", "memory");
    let reader = harness.ask_as("you", read(None));
    let impatient = harness.ask(read(Some(1.0)));
    harness.sleep(2.0);
    assert_eq!(harness.answer(impatient), Some(Err(PyError::builtin("TimeoutError", ""))));
    harness.get(set(future("x"), None)).expect("set");
    let first = harness.answer(reader).expect("it woke").expect("with a value");
    assert_eq!(first.get("state"), Some(&"memory".into()));
    let second = harness.get(read(None)).expect("at once");
    assert_ne!(first.get("token"), second.get("token"));
    harness.get(set(data(1), None)).expect("replaced");
    assert_eq!(harness.get(read(None)), Ok(msgpack(1)));
    assert_eq!(harness.wants(), ["+variable-v x"]);
    harness.get(confirm("x", &second)).expect("one confirms");
    assert_eq!(harness.wants(), ["+me x"]);
    let mut wishes = Vec::new();
    harness.coord.on_client_removed(&"you".into(), &mut wishes);
    harness.settle(wishes);
    assert_eq!(harness.wants(), ["-variable-v x"], "who is gone need not confirm");
    harness.ask_as("you", confirm("x", &first));
    assert_eq!(harness.wants(), ["+you x"], "late news is harmless");
}

#[test]
fn a_variable_that_gets_its_old_future_back_goes_on_holding_it() {
    let mut harness = Harness::new();
    harness.task("x", "memory");
    harness.task("y", "memory");
    harness.get(set(future("x"), None)).expect("set");
    let handed = harness.get(read(None)).expect("a value");
    harness.get(set(future("y"), None)).expect("set");
    harness.get(set(future("x"), None)).expect("set");
    harness.get(confirm("x", &handed)).expect("confirmed");
    assert_eq!(harness.wants(), ["+variable-v x", "+variable-v y", "+variable-v x", "-variable-v y", "+me x"]);
    harness.get(CoordRequest::VariableDelete { name: key("v") }).expect("deleted");
    assert_eq!(harness.wants(), ["-variable-v x"]);
    assert_eq!(harness.get(read(Some(0.0))), Err(PyError::builtin("TimeoutError", "")));
}

#[test]
fn a_variable_waits_for_the_task_of_its_future_and_no_longer_than_asked() {
    let mut harness = Harness::new();
    let [kept, gone] = [None, None].map(|timeout| harness.ask(set(future("x"), timeout)));
    harness.abandon(gone);
    let late = harness.ask(set(future("y"), Some(30.0)));
    harness.sleep(31.0);
    assert_eq!(harness.answer(late), Some(Err(PyError::builtin("TimeoutError", "Task y unknown to scheduler."))));
    harness.task("x", "waiting");
    assert_eq!((harness.answer(kept), harness.answer(gone)), (DONE, None));
    harness.coord.on_restart();
    harness.world.0.clear();
    assert_eq!(harness.get(read(None)).map(|record| record.get("state").cloned()), Ok(Some("lost".into())));
}

#[test]
fn datasets_are_published_once_unless_told_to_replace() {
    let mut harness = Harness::new();
    let publish = |names: &[Key], keys: &[&str], overwrite| CoordRequest::PublishPut {
        names: names.to_vec(),
        keys: names.iter().map(|_| keys.iter().map(|name| key(name)).collect()).collect(),
        data: names.iter().map(|_| Value::Int(1)).collect(),
        overwrite,
    };
    let pair = Key::tuple(&[key("d"), Key::int(1)]);
    harness.get(publish(&[key("z"), pair.clone(), Key::int(2)], &["x", "y"], false)).expect("new");
    let listed = Value::Array(vec![pair.to_value(), Value::Int(2), Value::str("z")]);
    assert_eq!(harness.get(CoordRequest::PublishList), Ok(listed), "sorted by their texts");
    harness.wants();
    let taken = harness.get(publish(std::slice::from_ref(&pair), &["x"], false));
    assert_eq!(taken, Err(PyError::builtin("KeyError", "Dataset ('d', 1) already exists")));
    harness.get(publish(std::slice::from_ref(&pair), &["x"], true)).expect("replaced");
    assert_eq!(harness.wants(), ["+published-('d', 1) x", "-published-('d', 1) y"]);
    let dataset = Value::map([("data", Value::Int(1)), ("keys", Value::Array(vec!["x".into()]))]);
    let asked = CoordRequest::PublishGet { names: vec![pair.clone(), key("none")] };
    assert_eq!(harness.get(asked), Ok(Value::Array(vec![dataset.clone(), Value::Nil])));
    assert_eq!(harness.get(CoordRequest::PublishGetOne { name: pair.clone() }), Ok(dataset));
    harness.get(CoordRequest::PublishDelete { names: vec![key("none"), pair] }).expect("deleted");
    assert_eq!(harness.wants(), ["-published-('d', 1) x"]);
}

fn any_request(rng: &mut Rng) -> CoordRequest {
    let timeout = [None, Some(0.0), Some(1.0), Some(15.0)][rng.below(4)];
    let name = key(["a", "b"][rng.below(2)]);
    let item = if rng.below(2) == 0 { data(1) } else { future(["x", "y", "z"][rng.below(3)]) };
    let lease_id = Key::int(rng.below(4) as i64);
    let batch = [QueueBatch::One, QueueBatch::One, QueueBatch::All, QueueBatch::Count(1 + rng.below(4))][rng.below(4)];
    let locks = (0..1 + rng.below(3)).map(|_| Key::int(rng.below(4) as i64)).collect();
    match rng.below(24) {
        0 | 1 => CoordRequest::EventWait { name, timeout },
        2 => CoordRequest::EventSet { name },
        3 => CoordRequest::EventClear { name },
        4 => CoordRequest::SemaphoreRegister { name, max_leases: 2, lease_timeout: Some(30.0) },
        5 | 6 => CoordRequest::SemaphoreAcquire { name, timeout, lease_id },
        7 => CoordRequest::SemaphoreRelease { name, lease_id },
        8 => CoordRequest::SemaphoreRefresh { name, lease_ids: vec![lease_id] },
        9 if rng.below(4) == 0 => CoordRequest::SemaphoreClose { name },
        10 | 11 => CoordRequest::MultiLockAcquire { locks, id: lease_id, timeout, num_locks: Some(1 + rng.below(2)) },
        12 => CoordRequest::MultiLockRelease { id: lease_id },
        13 => CoordRequest::QueueCreate { name, maxsize: rng.below(3) },
        14 if rng.below(3) == 0 => CoordRequest::QueueRelease { name },
        14..=16 => CoordRequest::QueuePut { name, item, timeout },
        17 | 18 => CoordRequest::QueueGet { name, timeout, batch },
        19 => CoordRequest::QueueFutureRelease { name, key: key(["x", "y", "z"][rng.below(3)]) },
        20 => CoordRequest::VariableSet { name, item, timeout },
        21 => CoordRequest::VariableDelete { name },
        _ => CoordRequest::VariableGet { name, timeout },
    }
}

/// Goal: no order of requests, deaths and time breaks a rule or leaves a call without its answer.
/// Method: seeded noise; `settle` checks every rule after each step. At the end everything is closed or timed out.
#[test]
fn no_order_of_requests_breaks_a_rule_or_answers_twice() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut harness = Harness::new();
        for _ in 0..150 {
            match rng.below(10) {
                0 => harness.sleep(rng.unit() * 12.0),
                1 => {
                    let call = 1 + rng.below(harness.calls as usize + 1) as CallId;
                    harness.abandon(call);
                }
                2 => harness.task(["x", "y", "z"][rng.below(3)], "memory"),
                _ => {
                    let request = any_request(&mut rng);
                    harness.ask(request);
                }
            }
        }
        harness.sleep(200.0);
        assert_eq!(harness.coord.next_deadline(), None, "seed {seed}: something still ticks");
    }
}
