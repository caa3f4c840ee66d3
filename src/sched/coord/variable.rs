//! Variables: one value by name. Reading waits until there is one.
//!
//! A future in a variable is wanted by the pseudo client `variable-<name>` until it is replaced and everyone it was
//! handed to has said that they want the key themselves. Source: `distributed/variable.py`, `VariableExtension`.

use std::collections::{BTreeMap, BTreeSet};

use super::request::{CoordView, Item, KeyWorld, record};
use super::waiters::{CoordStep, FutureTarget, WaitingPlace, timed_out};
use crate::base::{CallId, Key, Now, Text, Value};

#[derive(Default)]
struct Variable {
    value: Option<Item>,
    /// Calls that wait for a value, with their clients.
    getters: Vec<(CallId, Option<Text>)>,
    /// Keys that the pseudo client wants, each with the hand-outs not yet confirmed: token and receiver.
    held: BTreeMap<Key, BTreeMap<Text, Option<Text>>>,
}

impl Variable {
    /// Releases what is neither the value nor on its way to a reader.
    fn let_go(&mut self, step: &mut CoordStep<'_>, name: &Key) {
        let value = &self.value;
        let mut gone = Vec::new();
        self.held.retain(|key, tokens| {
            let kept = !tokens.is_empty() || matches!(value, Some(Item::Future(current)) if current == key);
            if !kept {
                gone.push(key.clone());
            }
            kept
        });
        step.release(pseudo_client(name), gone);
    }

    fn is_gone(&self) -> bool {
        self.value.is_none() && self.getters.is_empty() && self.held.is_empty()
    }
}

fn pseudo_client(name: &Key) -> Text {
    format!("variable-{name}").into()
}

/// All variables of a scheduler.
#[derive(Default)]
pub(super) struct Variables {
    by_name: BTreeMap<Key, Variable>,
    tokens: u64,
}

impl Variables {
    /// How each of them stands.
    pub fn views(&self) -> impl Iterator<Item = CoordView> {
        self.by_name.iter().map(|(name, variable)| {
            let value = match &variable.value {
                None => Value::Nil,
                Some(Item::Future(key)) => format!("future {key}").into(),
                Some(Item::Data(data)) => data.clone(),
            };
            let fields = vec![("value", value), ("waiting", variable.getters.len().into())];
            CoordView { kind: "variable", name: name.clone(), fields }
        })
    }

    pub fn set(&mut self, step: &mut CoordStep<'_>, call: CallId, to: (Key, Item, Option<Now>), world: &dyn KeyWorld) {
        let (name, item, deadline) = to;
        if step.waits_for_task(call, (&item, deadline), world, || FutureTarget::Variable(name.clone())) {
            return;
        }
        let variable = self.by_name.entry(name.clone()).or_default();
        if let Item::Future(key) = &item {
            variable.held.entry(key.clone()).or_default();
            step.desire(pseudo_client(&name), vec![key.clone()]);
        }
        variable.value = Some(item);
        variable.let_go(step, &name);
        step.answer(call, Value::Nil);
        for (getter, client) in std::mem::take(&mut variable.getters) {
            self.hand_out(step, getter, &name, client.as_ref(), world);
        }
    }

    pub fn get(
        &mut self,
        step: &mut CoordStep<'_>,
        call: CallId,
        from: (Key, Option<f64>, Option<&Text>),
        world: &dyn KeyWorld,
    ) {
        let (name, timeout, client) = from;
        if self.by_name.get(&name).is_some_and(|variable| variable.value.is_some()) {
            return self.hand_out(step, call, &name, client, world);
        }
        let deadline = step.deadline(timeout);
        if step.is_past(deadline) {
            return step.fail(call, timed_out(""));
        }
        self.by_name.entry(name.clone()).or_default().getters.push((call, client.cloned()));
        step.park(call, WaitingPlace::VariableGet(name), deadline);
    }

    fn hand_out(
        &mut self,
        step: &mut CoordStep<'_>,
        call: CallId,
        name: &Key,
        client: Option<&Text>,
        world: &dyn KeyWorld,
    ) {
        let Some(variable) = self.by_name.get_mut(name) else { return };
        let Some(item) = &variable.value else { return };
        let mut answer = record(item, world);
        if let (Item::Future(key), Value::Map(fields)) = (item, &mut answer) {
            self.tokens = self.tokens.wrapping_add(1);
            let token: Text = format!("{:032x}", self.tokens).into();
            fields.push((Value::str("token"), Value::Str(token.clone())));
            variable.held.entry(key.clone()).or_default().insert(token, client.cloned());
        }
        step.answer(call, answer);
    }

    /// The receiver of a future says that it wants the key itself from now on.
    pub fn confirm(&mut self, step: &mut CoordStep<'_>, of: (&Key, Key, &Text), client: Option<&Text>) {
        let (name, key, token) = of;
        if let Some(client) = client {
            step.desire(client.clone(), vec![key.clone()]);
        }
        if let Some(tokens) = self.by_name.get_mut(name).and_then(|variable| variable.held.get_mut(&key)) {
            tokens.remove(token);
        }
        self.tidy(step, name);
    }

    /// Readers that wait go on waiting: somebody may set the variable again.
    pub fn delete(&mut self, step: &mut CoordStep<'_>, name: &Key) {
        if let Some(variable) = self.by_name.get_mut(name) {
            variable.value = None;
        }
        self.tidy(step, name);
    }

    pub fn withdraw(&mut self, call: CallId, name: &Key) {
        let Some(variable) = self.by_name.get_mut(name) else { return };
        variable.getters.retain(|(getter, _)| *getter != call);
        if variable.is_gone() {
            self.by_name.remove(name);
        }
    }

    /// A client that is gone will not confirm what it was handed.
    pub fn forget_client(&mut self, step: &mut CoordStep<'_>, client: &Text) {
        let mut names = BTreeSet::new();
        for (name, variable) in &mut self.by_name {
            for tokens in variable.held.values_mut() {
                let before = tokens.len();
                tokens.retain(|_, receiver| receiver.as_ref() != Some(client));
                if tokens.len() < before {
                    names.insert(name.clone());
                }
            }
        }
        for name in names {
            self.tidy(step, &name);
        }
    }

    /// After a restart nobody wants anything: hand-outs need no confirming.
    pub fn forget_wants(&mut self) {
        self.by_name.retain(|_, variable| {
            variable.held.clear();
            if let Some(Item::Future(key)) = &variable.value {
                variable.held.insert(key.clone(), BTreeMap::new());
            }
            !variable.is_gone()
        });
    }

    fn tidy(&mut self, step: &mut CoordStep<'_>, name: &Key) {
        let Some(variable) = self.by_name.get_mut(name) else { return };
        variable.let_go(step, name);
        if variable.is_gone() {
            self.by_name.remove(name);
        }
    }

    /// Lists who waits where; returns the first broken rule.
    pub fn check(&self, waiting: &mut Vec<(CallId, WaitingPlace)>) -> Result<(), String> {
        for (name, variable) in &self.by_name {
            if variable.is_gone() {
                return Err(format!("variable {name} is kept for nobody"));
            }
            if variable.value.is_some() && !variable.getters.is_empty() {
                return Err(format!("variable {name} has a value and calls that wait for it"));
            }
            let current = match &variable.value {
                Some(Item::Future(key)) => Some(key),
                Some(Item::Data(_)) | None => None,
            };
            if current.is_some_and(|key| !variable.held.contains_key(key)) {
                return Err(format!("variable {name} does not hold its own future"));
            }
            if variable.held.iter().any(|(key, tokens)| tokens.is_empty() && Some(key) != current) {
                return Err(format!("variable {name} holds a key for nobody"));
            }
            waiting.extend(variable.getters.iter().map(|(call, _)| (*call, WaitingPlace::VariableGet(name.clone()))));
        }
        Ok(())
    }
}
