//! News of the keepers on their way to `sanblk events`: from threads that wait for nobody to one that asks when it is asked.

use std::path::Path;

use crossbeam_channel::{Receiver, Sender, bounded};
use iscsi_client::time::Instant;

use crate::daemon::events::{Events, utc};
use crate::daemon::volume::Volume;
use crate::keeper::{News, Reporter};
use crate::report::EventReport;

/// News that may wait until somebody asks; the log has the rest.
const WAITING_MAX: usize = 1000;

/// Where all keepers tell.
pub struct Newsroom {
    to: Sender<(String, String, News)>,
    told: Receiver<(String, String, News)>,
}

impl Default for Newsroom {
    fn default() -> Newsroom {
        let (to, told) = bounded(WAITING_MAX);
        Newsroom { to, told }
    }
}

impl Newsroom {
    /// For the keeper of a lockspace at this place, or on this volume.
    pub fn reporter(&self, place: &Path, volume: Option<&Volume>) -> Reporter {
        Reporter {
            device: volume.map_or_else(|| place.display().to_string(), Volume::node),
            wwid: volume.map_or_else(String::new, |volume| volume.wwid().to_owned()),
            to: self.to.clone(),
        }
    }

    /// Takes over what was told.
    pub fn fetch(&self, events: &Events) {
        for (device, wwid, news) in self.told.try_iter() {
            events.tell(EventReport {
                time: utc(Instant::from_nanos(news.at.nanos())),
                device,
                wwid,
                portal: None,
                state: None,
                text: news.text,
            });
        }
    }
}
