//! What the scheduler orders.

use super::driver::{Driver, NodeStatus, TaskSpec};
use super::translate::{compute_event, event_of};
use crate::base::Value;
use crate::executor::ToControl;
use crate::wire::Message;
use crate::wire::op::{ComputeOrder, WorkerOrder};

impl Driver {
    pub(super) fn on_orders(&mut self, orders: Vec<WorkerOrder>) {
        for order in orders {
            if self.end.is_some() {
                return;
            }
            self.on_order(order);
        }
    }

    fn on_order(&mut self, order: WorkerOrder) {
        match event_of(order) {
            Ok(event) => self.step(event),
            Err(WorkerOrder::Compute(order)) => self.on_compute(*order),
            Err(WorkerOrder::StatusChange { status }) => match NodeStatus::from_name(&status) {
                Some(status) => self.turn_to(status),
                None => tracing::warn!(%status, "the scheduler wants a state that is none"),
            },
            Err(WorkerOrder::Close { reason }) => self.close(reason),
            Err(WorkerOrder::CloseStream) => self.close("the scheduler closed the stream"),
            // Only its plugins know.
            Err(WorkerOrder::Other { body, .. }) => {
                self.executor.tell(&ToControl::Stream(&Message::from_value(&body)));
            }
            Err(WorkerOrder::Malformed { op, error }) => {
                // The machine would wait for ever for what was in it.
                self.break_down(format!("the scheduler's order {op} cannot be read: {error}"));
            }
            Err(_) => {}
        }
    }

    fn on_compute(&mut self, order: ComputeOrder) {
        match compute_event(&order) {
            Ok(event) => {
                let annotations = match order.annotations.fields() {
                    Some([]) | None => Value::Nil,
                    Some(_) => order.annotations,
                };
                let (payload, span, actor) = (order.run_spec, order.span_id, order.actor);
                self.specs.insert(order.key, TaskSpec { payload, span, annotations, actor });
                self.step(event);
            }
            Err(error) => {
                self.break_down(format!("the scheduler's priority of {} has {} parts", order.key, error.parts))
            }
        }
    }
}
