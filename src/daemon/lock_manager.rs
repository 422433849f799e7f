//! The lock manager for programs that know sanlock only: on if it was asked for, and if nobody else is one.

use std::rc::Rc;

use tokio::task::JoinHandle;

use super::Daemon;
use crate::config;
use crate::kill_helper::KillHelper;
use crate::report::LockManagerReport;
use crate::sanlock::kill::Killer;
use crate::sanlock::server::{NotServed, Socket};
use crate::sanlock::service::Service;

impl Daemon {
    /// Sanlock's clients, where they are served.
    pub(super) fn clients(&self) -> Option<Rc<Service>> {
        self.clients.borrow().clone()
    }

    /// Serves sanlock's clients, if nobody else does.
    pub(super) fn serve_sanlock(
        self: &Rc<Self>,
        options: &config::Sanlock,
        helper: Option<KillHelper>,
    ) -> Option<JoinHandle<()>> {
        let directory = self.layout.sanlock();
        let (path, served) = match Socket::bind(&directory, options.group) {
            Ok(socket) => (socket.path().to_owned(), Ok(socket)),
            Err(NotServed::Another(path)) => {
                let why = format!(
                    "another one serves {}; volumes are attached all the same",
                    path.display()
                );
                (path, Err(why))
            }
            Err(NotServed::Failed(path, error)) => {
                let why = format!("{}: {error}", path.display());
                (path, Err(why))
            }
        };
        let off = served.as_ref().err().cloned();
        match &off {
            None => tracing::info!("serving sanlock's clients at {}", path.display()),
            Some(why) => tracing::error!("the lock manager is off: {why}"),
        }
        *self.lock_manager.borrow_mut() = Some(LockManagerReport {
            socket: path.display().to_string(),
            off,
        });
        let socket = served.ok()?;
        let killer = Killer::new(helper);
        let service = Service::new(Rc::clone(self), options.on_lease_expiry, killer);
        let service = Rc::new(service);
        *self.clients.borrow_mut() = Some(Rc::clone(&service));
        Some(tokio::task::spawn_local(socket.serve(service)))
    }
}
