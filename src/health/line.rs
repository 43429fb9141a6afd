//! The way to the control plane for the other rooms: questions of the fill, and who this box is.
//!
//! `appliance` hands a [`Line`] to the fill (its `Ask`) and to the peer listener. It uses the
//! client that `task` opened, over a connection of its own, so that reports and heartbeats never
//! wait for it. It never enrols, renews or retries.
//!
//! I/O: asks the control plane.

use super::handle::Command;
use super::view::ControlView;
use super::view::LinkState;
use crate::clock;
use crate::ids::BoxId;
use crate::link::client::Client;
use crate::link::identity::Identity;
use crate::link::manifest::Verifier;
use crate::link::message::FillSources;
use crate::link::message::FillSourcesRequest;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// `task`'s end: the client, once the identity is open.
pub(super) type ClientWatch = watch::Sender<Option<Arc<Client>>>;

/// Clones share it. Of no use once the link has stopped, and says so.
#[derive(Clone, Debug)]
pub struct Line {
    /// Of the configuration: nothing is said in another box's name.
    id: BoxId,
    client: watch::Receiver<Option<Arc<Client>>>,
    view: watch::Receiver<Arc<ControlView>>,
    commands: mpsc::Sender<Command>,
}

impl Line {
    pub(super) fn new(
        id: BoxId,
        client: watch::Receiver<Option<Arc<Client>>>,
        view: watch::Receiver<Arc<ControlView>>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self {
            id,
            client,
            view,
            commands,
        }
    }

    pub fn view(&self) -> Arc<ControlView> {
        self.view.borrow().clone()
    }

    /// Told of each change of the view.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ControlView>> {
        self.view.clone()
    }

    /// A report at once, spaced as the schedule allows.
    pub fn report_now(&self) {
        // A full queue holds the same wish already.
        let _ = self.commands.try_send(Command::ReportNow);
    }

    /// Who has what is wanted. `Err` in words; at once while the box is not connected.
    pub fn fill_sources(
        &self,
        request: FillSourcesRequest,
    ) -> BoxFuture<'static, Result<FillSources, String>> {
        let client = self.client().ok_or_else(|| {
            let summary = self.view.borrow().summary(clock::boot());
            format!("nobody can be asked for sources: {summary}")
        });
        Box::pin(async move {
            let reply = client?.fill_sources(&request).await;
            reply.map_err(|error| error.to_string())
        })
    }

    /// Key and certificate, current after each renewal; `None` until the box is enrolled.
    pub fn identity(&self) -> Option<Identity> {
        let client = self.client.borrow().clone()?;
        let identity = client.identity();
        let is_own = identity
            .credentials()
            .is_some_and(|credentials| credentials.id == self.id);
        is_own.then_some(identity)
    }

    /// Believes manifests, tickets and permissions of this box's control plane; `None` until the
    /// box is enrolled.
    pub fn verifier(&self) -> Option<Verifier> {
        let identity = self.identity()?;
        Verifier::new(&identity.credentials()?.manifest_keys).ok()
    }

    /// While the link runs and the control plane answers.
    fn client(&self) -> Option<Arc<Client>> {
        let runs = self.client.has_changed().is_ok();
        let connected = self.view.borrow().state == LinkState::Connected;
        let client = self.client.borrow().clone();
        client.filter(|_| runs && connected)
    }
}
