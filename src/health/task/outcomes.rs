//! What became of the calls: replies are taken, failures told to the schedule.
//!
//! The part of [`super::Task`] that its `run` calls with each call that ended.

use super::Task;
use crate::clock;
use crate::clock::Boot;
use crate::health::calls;
use crate::health::calls::CallError;
use crate::health::calls::Outcome;
use crate::health::news;
use crate::health::schedule::Call;
use crate::health::schedule::Fault;
use crate::health::schedule::Input;
use crate::health::skew;
use crate::link::message::Orders;
use crate::link::message::ReportReply;
use crate::link::steps::Outbox;
use crate::store;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::Id;

impl Task {
    pub(super) fn ended(&mut self, ended: Result<(Id, Outcome), tokio::task::JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, Ok(outcome)),
            Err(error) => (error.id(), Err(error.to_string())),
        };
        let at = self.kinds.iter().position(|(known, _)| *known == id);
        let call = at.and_then(|at| self.kinds.swap_remove(at).1);
        let outcome = outcome.unwrap_or_else(|problem| {
            let outbox = self.take_outbox();
            Outcome::panicked(call, clock::boot(), outbox, &problem)
        });
        match outcome {
            Outcome::Opened(Ok(client)) => {
                self.complaints.settle("identity");
                self.clients.send_replace(Some(Arc::clone(&client)));
                self.client = Some(client);
            }
            Outcome::Opened(Err(error)) => {
                self.open_at = Some(clock::now() + calls::OPEN_AGAIN);
                self.complain("identity", &error.to_string());
            }
            Outcome::Enrolled(result) => self.simple(Call::Enrol, result),
            Outcome::Renewed(result) => self.simple(Call::Renew, result),
            Outcome::Reported {
                asked,
                outbox,
                gate,
                manifest,
                result,
            } => {
                if result.is_ok() {
                    self.view.told = Some(gate);
                    self.view.acknowledged = manifest;
                }
                self.reported(asked, *outbox, result);
            }
            Outcome::Beaten {
                asked,
                gate,
                result,
            } => match result {
                Ok(reply) => {
                    self.view.last_heartbeat = Some(clock::wall());
                    self.view.told = Some(gate);
                    self.succeeded(Call::Heartbeat);
                    self.orders(asked, reply.orders);
                    self.input(Input::Done(Call::Heartbeat));
                }
                Err(error) => self.failed(Call::Heartbeat, &error),
            },
            Outcome::Manifest(result) => self.adopted(result),
        }
    }

    fn simple(&mut self, call: Call, result: Result<(), CallError>) {
        match result {
            Ok(()) => {
                tracing::info!(
                    call = call.as_str(),
                    "control plane: {} done",
                    call.as_str()
                );
                self.succeeded(call);
                let certificate = self.certificate();
                self.input(Input::Done(call));
                self.input(Input::Certificate(certificate));
            }
            Err(error) => self.failed(call, &error),
        }
    }

    fn reported(
        &mut self,
        asked: Boot,
        mut outbox: Outbox,
        result: Result<ReportReply, CallError>,
    ) {
        match result {
            Ok(reply) => {
                outbox.acknowledge(reply.acked);
                self.outbox = Some(outbox);
                self.view.last_report = Some(clock::wall());
                self.succeeded(Call::Report);
                let next = Duration::from_secs(reply.next_report_s);
                self.input(Input::Reported { next });
                if let Some(keys) = reply.viewer_keys {
                    (self.deps.viewer_keys)(keys);
                }
                self.orders(asked, reply.orders);
            }
            Err(error) => {
                let fault = if error.is_out_of_step() {
                    let again = outbox.refused();
                    Fault::OutOfStep { again }
                } else {
                    outbox.unanswered();
                    error.fault()
                };
                self.outbox = Some(outbox);
                self.failed_with(Call::Report, &error, fault);
            }
        }
    }

    fn adopted(&mut self, result: Result<Option<store::Adopted>, CallError>) {
        match result {
            Ok(adopted) => {
                if let Some(adopted) = adopted {
                    news::log_adopted(&adopted);
                }
                self.succeeded(Call::Manifest);
                // The store shows it before it says that it is done.
                let view = self.deps.store.borrow().clone();
                self.held(&view);
                self.input(Input::Done(Call::Manifest));
            }
            Err(error) => self.failed(Call::Manifest, &error),
        }
    }

    /// What a reply tells the box, unless a later question's reply has ruled already.
    fn orders(&mut self, asked: Boot, orders: Orders) {
        self.view.last_contact = Some(clock::wall());
        let round_trip = clock::boot().saturating_since(asked);
        let agrees = skew::agrees(&orders.server_time, clock::wall(), round_trip);
        self.clock_agrees(agrees);
        if !self.lease.grant(asked, Duration::from_secs(orders.lease_s)) {
            return;
        }
        if self.view.enabled != orders.enabled {
            let word = if orders.enabled {
                "enables"
            } else {
                "disables"
            };
            tracing::info!(
                enabled = orders.enabled,
                "the control plane {word} this box"
            );
        }
        self.view.enabled = orders.enabled;
        self.view.manifest_wanted = orders.manifest;
        self.view.fill = orders.fill;
        self.input(Input::Orders {
            wanted: orders.manifest,
            renew: orders.renew,
            report_now: orders.report_now,
        });
    }

    fn clock_agrees(&mut self, agrees: Option<bool>) {
        if agrees.is_none() {
            return;
        }
        if agrees == Some(false) && self.view.clock_agrees != agrees {
            tracing::warn!(
                "the control plane's clock and this box's are more than a minute apart: nothing is \
                 fetched in bulk or deleted until they agree; check the time daemon of both"
            );
        }
        self.view.clock_agrees = agrees;
    }

    fn succeeded(&mut self, call: Call) {
        if matches!(call, Call::Report | Call::Heartbeat | Call::Enrol) {
            self.banished = false;
        }
        self.complaints.settle(call.as_str());
        self.view.last_error = self.complaints.last().map(str::to_owned);
    }

    fn failed(&mut self, call: Call, error: &CallError) {
        self.failed_with(call, error, error.fault());
    }

    fn failed_with(&mut self, call: Call, error: &CallError, fault: Fault) {
        if error.is_silence() {
            self.lease.failed(clock::boot());
        }
        self.banished |= error.is_banishment();
        self.complain(call.as_str(), &error.to_string());
        self.input(Input::Failed(call, fault));
        if error.is_unknown_key() {
            self.input(Input::Orders {
                wanted: self.view.manifest_wanted,
                renew: true,
                report_now: false,
            });
        }
    }

    pub(super) fn complain(&mut self, what: &'static str, problem: &str) {
        self.complaints.add(clock::now(), what, problem);
        self.view.last_error = self.complaints.last().map(str::to_owned);
    }
}
