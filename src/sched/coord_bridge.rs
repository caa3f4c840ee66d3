//! Joins coordination primitives to the tasks: what they ask of keys, and what they wish done.

use super::Scheduler;
use super::coord::{Coord, CoordRequest, CoordWish, KeyWorld};
use super::effect::{Answer, Effect};
use crate::base::{CallId, ClientId, Failure, Key, Text};

impl KeyWorld for Scheduler {
    fn key_state(&self, key: &Key) -> Option<(&'static str, Option<&Failure>)> {
        let task = self.find(key)?;
        Some((self.tasks[task].state.name().as_str(), self.failure_of(task).map(|failure| &**failure)))
    }
}

impl Scheduler {
    pub(super) fn on_coord(&mut self, call: CallId, client: Option<ClientId>, request: CoordRequest) {
        let name: Option<Text> = client.and_then(|client| self.clients.get(client)).map(|client| client.name.clone());
        let now = self.now;
        self.with_coord(|coord, world, wishes| coord.on_request(now, call, name.as_ref(), request, world, wishes));
        self.run_transitions();
    }

    pub(super) fn on_call_abandoned(&mut self, call: CallId) {
        self.with_coord(|coord, _, wishes| coord.on_abandoned(call, wishes));
        self.run_transitions();
    }

    /// Does anybody wait for a key to exist?
    pub(super) fn coord_awaits_keys(&self) -> bool {
        self.coord.awaits_keys()
    }

    /// A task with that key has just been made.
    pub(super) fn key_is_known(&mut self, key: &Key) {
        if self.coord.awaits_keys() {
            let now = self.now;
            self.with_coord(|coord, world, wishes| coord.on_key_known(now, key, world, wishes));
        }
    }

    pub(super) fn coord_tick(&mut self) {
        let now = self.now;
        self.with_coord(|coord, world, wishes| coord.on_tick(now, world, wishes));
        self.run_transitions();
    }

    /// Lets coordination look at the tasks while it works, then grants what it wished for.
    pub(super) fn with_coord(&mut self, work: impl FnOnce(&mut Coord, &Self, &mut Vec<CoordWish>)) {
        let empty = Coord::new(self.config.lease_validation_interval_secs);
        let mut coord = std::mem::replace(&mut self.coord, empty);
        let mut wishes = Vec::new();
        work(&mut coord, self, &mut wishes);
        self.coord = coord;
        for wish in wishes {
            match wish {
                CoordWish::Answer(call, Ok(value)) => self.answer(call, Answer::Value(value)),
                CoordWish::Answer(call, Err(error)) => self.answer(call, Answer::Error(error)),
                CoordWish::Desire(client, keys) => {
                    let client = self.client_named(&client);
                    self.client_desires(client, &keys);
                }
                CoordWish::Release(client, keys) => {
                    let client = self.client_named(&client);
                    for key in &keys {
                        if let Some(task) = self.find(key) {
                            self.release_for_client(client, task);
                        }
                    }
                }
            }
        }
    }

    pub(super) fn answer(&mut self, call: CallId, answer: Answer) {
        self.out.push(Effect::Answer { call, answer });
    }
}
