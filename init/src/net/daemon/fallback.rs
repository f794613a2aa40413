//! What is wished is for cards that are not here: it waits for them, and meanwhile every card that is
//! here is used as if nothing had been said.

use std::time::Duration;

use rescue_schema::network::{Kind, Network};

use super::Daemon;
use crate::net::cards::{Card, Pci};
use crate::net::matching;
use crate::sys::time::since_boot;
use crate::sys::watch::Watch;

/// How long drivers that are still loading may take before their cards count as absent, where nobody
/// says that they have settled.
const LIMIT: Duration = Duration::from_secs(20);
/// Cards that are named in messages.
const MOST_NAMED: usize = 3;

/// Whether what is wished is in effect.
#[derive(Default)]
pub(super) enum Fallback {
    /// It is.
    #[default]
    Off,
    /// It is, although none of its cards is here: drivers are still loading.
    Waiting {
        /// On the folder of what is said of the boot.
        watch: Option<Watch>,
        /// When they count as settled.
        until: Duration,
    },
    /// It is not.
    On,
}

impl Daemon<'_> {
    /// Whether every card is used because none that is wished is here.
    pub(super) fn is_fallback(&self) -> bool {
        matches!(self.fallback, Fallback::On)
    }

    /// Chooses between what is wished and the fallback, by the cards that are here.
    pub(super) fn choose(&mut self, cards: &[Card], pci: &[Pci]) {
        if !self.wished.links.iter().any(|link| link.kind == Kind::Ethernet) {
            self.fallback = Fallback::Off;
            return;
        }
        let here = matching::find(&self.wished, cards, pci).iter().any(Option::is_some);
        match (here, &self.fallback) {
            (true, Fallback::On) => {
                (self.settings.say)("a card that the document names is here now: its network is used");
                self.fallback = Fallback::Off;
                self.network = self.wished.clone();
                self.building.begin_anew();
            }
            (true, _) => self.fallback = Fallback::Off,
            (false, Fallback::On) => {}
            (false, Fallback::Waiting { until, .. })
                if *until > since_boot() && !(self.settings.settled)() => {}
            (false, Fallback::Off) if !(self.settings.settled)() => {
                let folder = self.settings.report.parent();
                let watch = folder.and_then(|folder| Watch::open(folder).ok());
                self.fallback = Fallback::Waiting { watch, until: since_boot() + LIMIT };
                // What was said before the watch stood.
                if (self.settings.settled)() {
                    self.fall_back();
                }
            }
            (false, _) => self.fall_back(),
        }
    }

    fn fall_back(&mut self) {
        (self.settings.say)(&self.why_fallback());
        self.fallback = Fallback::On;
        let nothing = Network { links: Vec::new(), dns: self.wished.dns.clone() };
        self.network = self.climbed.clone().unwrap_or(nothing);
        self.building.begin_anew();
    }

    /// For the log and for `rescue net`.
    pub(super) fn why_fallback(&self) -> String {
        let cards = || self.wished.links.iter().filter(|link| link.kind == Kind::Ethernet);
        let named: Vec<String> = cards().take(MOST_NAMED).map(matching::describe).collect();
        let more = if cards().count() > MOST_NAMED { ", …" } else { "" };
        let named = named.join(", ");
        format!(
            "the document names only cards that are not here ({named}{more}); using DHCP on every link until one is"
        )
    }

    /// Looks again where drivers are waited for and something was said of them.
    pub(super) fn drivers(&mut self) {
        if let Fallback::Waiting { watch, until } = &mut self.fallback {
            let news = watch.as_mut().is_some_and(|watch| watch.wait_for(Duration::ZERO).unwrap_or(false));
            if (news && (self.settings.settled)()) || *until <= since_boot() {
                self.look_at_links(&std::collections::BTreeSet::new());
            }
        }
    }

    /// When [`Self::drivers`] has something to do although nothing is said.
    pub(super) fn drivers_until(&self) -> Option<Duration> {
        match self.fallback {
            Fallback::Waiting { until, .. } => Some(until),
            Fallback::Off | Fallback::On => None,
        }
    }

    /// What is polled for [`Self::drivers`].
    pub(super) fn drivers_watch(&self) -> Option<&Watch> {
        match &self.fallback {
            Fallback::Waiting { watch, .. } => watch.as_ref(),
            Fallback::Off | Fallback::On => None,
        }
    }
}
