//! The state whose changes are events, and the changes between two moments.

use std::sync::Arc;

use registry::upstream::InstanceState;
use serde::Serialize;
use tokio::time::Instant;
use zone_router::ZoneView;

use crate::Gateway;

/// The state at one moment.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) zones: Vec<ZoneState>,
    registry: Vec<InstanceState>,
    /// Counts since the start.
    pushes_not_queued: u64,
    certificates_refused: u64,
    certificates_loaded: u64,
    journal_refuses: bool,
}

/// One zone at one moment.
#[derive(Debug, Clone)]
pub(super) struct ZoneState {
    pub(super) name: Arc<str>,
    state: &'static str,
    reason: Option<Arc<str>>,
    /// The time of a probe in milliseconds, if the zone answers them.
    pub(super) latency: Option<f64>,
    /// Counts since the start.
    pub(super) reads: u64,
    pub(super) bytes: u64,
    wrong_bytes: u64,
    ejections: u64,
}

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Something is well again.
    Good,
    /// An operator did it, or it is as it should be.
    Info,
    /// Something is worse than usual.
    Warning,
    /// Look at it.
    Critical,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    pub(super) level: Level,
    /// `zone`, `instance`, `bytes`, `push`, `journal` or `certificate`.
    pub(super) kind: &'static str,
    /// The zone or the instance. Empty if the event is about neither.
    pub(super) subject: String,
    pub(super) text: String,
}

/// Reads the state now.
pub(super) fn read(gateway: &Gateway) -> State {
    let now = Instant::now();
    let tls = gateway.server_tls.status();
    State {
        zones: gateway.router.snapshot().zones.iter().map(|view| ZoneState::of(view, now)).collect(),
        registry: gateway.upstream.states().collect(),
        pushes_not_queued: gateway.metrics.pushes_not_queued(),
        certificates_refused: tls.refused,
        certificates_loaded: tls.loaded,
        journal_refuses: gateway.metrics.journal_refuses(),
    }
}

impl ZoneState {
    fn of(view: &ZoneView, now: Instant) -> Self {
        Self {
            name: Arc::clone(&view.name),
            state: operations::zones::state(view, now),
            reason: view.unusable.clone().or_else(|| view.reason.clone()),
            latency: view.probe.filter(|_| view.serves()).map(|probe| probe.as_secs_f64() * 1000.0),
            reads: view.counts.reads,
            bytes: view.counts.bytes,
            wrong_bytes: view.counts.wrong_bytes,
            ejections: view.counts.opened,
        }
    }
}

#[cfg(test)]
impl State {
    pub(super) fn of_zones(zones: Vec<ZoneState>) -> Self {
        Self { zones, ..Self::default() }
    }
}

#[cfg(test)]
impl ZoneState {
    /// A healthy zone.
    pub(super) fn answering(name: &str, latency: f64, reads: u64) -> Self {
        Self {
            name: name.into(),
            state: "healthy",
            reason: None,
            latency: Some(latency),
            reads,
            bytes: 0,
            wrong_bytes: 0,
            ejections: 0,
        }
    }
}

/// The changes from one moment to the next. Pure.
pub(super) fn changes(before: &State, now: &State) -> Vec<Change> {
    let mut changes = Vec::new();
    for zone in &now.zones {
        let earlier = before.zones.iter().find(|earlier| earlier.name == zone.name);
        changes.extend(earlier.into_iter().flat_map(|earlier| zone_changes(earlier, zone)));
    }
    for instance in &now.registry {
        let earlier = before.registry.iter().find(|earlier| earlier.name == instance.name);
        changes.extend(earlier.and_then(|earlier| instance_change(earlier, instance)));
    }
    let lost = now.pushes_not_queued.saturating_sub(before.pushes_not_queued);
    if lost > 0 {
        let text = format!("pushes whose copies are not queued: {lost}; push them again");
        changes.push(about(Level::Critical, "push", text));
    }
    match (before.journal_refuses, now.journal_refuses) {
        (false, true) => {
            let text = "the journal takes no jobs: pushes are not copied to the other zones";
            changes.push(about(Level::Critical, "journal", text.into()));
        }
        (true, false) => changes.push(about(Level::Good, "journal", "the journal takes jobs again".into())),
        _ => {}
    }
    if now.certificates_refused > before.certificates_refused {
        let text = "a new certificate is refused: the old one is still served";
        changes.push(about(Level::Critical, "certificate", text.into()));
    }
    if now.certificates_loaded > before.certificates_loaded {
        let text = "a new certificate is used for new connections";
        changes.push(about(Level::Info, "certificate", text.into()));
    }
    changes
}

fn about(level: Level, kind: &'static str, text: String) -> Change {
    Change { level, kind, subject: String::new(), text }
}

fn zone_changes(before: &ZoneState, now: &ZoneState) -> Vec<Change> {
    let name = &now.name;
    let change = |level, kind, text| Change { level, kind, subject: name.to_string(), text };
    let reason = now.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let mut changes = Vec::new();
    if before.state != now.state {
        let text = format!("{name} is {}{reason}", now.state);
        changes.push(change(level(now.state), "zone", text));
    } else if now.ejections > before.ejections && now.state != "ejected" {
        let text = format!("{name} was ejected for a moment and is {} again", now.state);
        changes.push(change(Level::Warning, "zone", text));
    } else if now.state == "ejected" && before.reason != now.reason {
        changes.push(change(Level::Critical, "zone", format!("{name} is still ejected{reason}")));
    }
    let wrong = now.wrong_bytes.saturating_sub(before.wrong_bytes);
    if wrong > 0 {
        let text = format!("{name} gave wrong bytes; blobs that were cut before their end: {wrong}");
        changes.push(change(Level::Critical, "bytes", text));
    }
    changes
}

/// How much it matters that a zone is now in this state.
fn level(state: &str) -> Level {
    match state {
        "healthy" => Level::Good,
        "drained" | "never read" => Level::Info,
        "suspect" | "throttled" | "probation" => Level::Warning,
        _ => Level::Critical,
    }
}

fn instance_change(before: &InstanceState, now: &InstanceState) -> Option<Change> {
    let name = &now.name;
    let (level, text) = match (before.state == now.state, before.uploads == now.uploads) {
        (false, _) => match now.state {
            "closed" => (Level::Good, format!("instance {name} is in use")),
            "open" => (
                Level::Critical,
                format!(
                    "instance {name} is out of use: {}",
                    now.why.as_deref().unwrap_or("no reason is known")
                ),
            ),
            _ => (Level::Warning, format!("instance {name} answers probes again")),
        },
        (true, false) if now.uploads == "open" => {
            (Level::Warning, format!("instance {name} takes no new uploads"))
        }
        (true, false) if now.uploads == "closed" => {
            (Level::Good, format!("instance {name} takes new uploads again"))
        }
        _ => return None,
    };
    Some(Change { level, kind: "instance", subject: name.to_string(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(state: &'static str, reason: Option<&str>) -> ZoneState {
        let (name, reason) = (Arc::from("a"), reason.map(Arc::from));
        let (latency, reads, bytes, wrong_bytes, ejections) = (None, 0, 0, 0, 0);
        ZoneState { name, state, reason, latency, reads, bytes, wrong_bytes, ejections }
    }

    fn one(zone: ZoneState) -> State {
        State::of_zones(vec![zone])
    }

    fn instance(state: &'static str, uploads: &'static str) -> State {
        let (name, zone) = (Arc::from("q"), Arc::from("a"));
        let why = Some("refused".to_owned());
        State {
            registry: vec![InstanceState { name, zone, state, why, uploads, errors: 0 }],
            ..State::default()
        }
    }

    fn told(before: &State, now: &State) -> Vec<(Level, &'static str, String)> {
        changes(before, now).into_iter().map(|change| (change.level, change.kind, change.text)).collect()
    }

    #[test]
    fn a_zone_changes_its_state() {
        let (well, ill) = (one(zone("healthy", None)), one(zone("ejected", Some("timeout"))));
        assert_eq!(told(&well, &ill), [(Level::Critical, "zone", "a is ejected: timeout".into())]);
        assert_eq!(told(&ill, &well), [(Level::Good, "zone", "a is healthy".into())]);
        let other = one(zone("ejected", Some("denied")));
        assert_eq!(told(&ill, &other), [(Level::Critical, "zone", "a is still ejected: denied".into())]);
        assert_eq!(told(&well, &well), []);
        assert_eq!(told(&State::default(), &well), [], "a zone that is new is no change of state");
    }

    #[test]
    fn a_short_ejection_and_wrong_bytes_are_not_missed() {
        let before = one(zone("healthy", None));
        let now = one(ZoneState { ejections: 1, wrong_bytes: 2, ..zone("healthy", None) });
        let told: Vec<_> = told(&before, &now).into_iter().map(|(level, kind, _)| (level, kind)).collect();
        assert_eq!(told, [(Level::Warning, "zone"), (Level::Critical, "bytes")]);
    }

    #[test]
    fn instances_the_journal_pushes_and_certificates_are_told() {
        assert_eq!(
            told(&instance("closed", "closed"), &instance("open", "open")),
            [(Level::Critical, "instance", "instance q is out of use: refused".into())]
        );
        assert_eq!(told(&instance("closed", "open"), &instance("closed", "half-open")), []);
        assert_eq!(told(&instance("closed", "closed"), &instance("closed", "open"))[0].0, Level::Warning);
        let now = State {
            pushes_not_queued: 1,
            certificates_refused: 1,
            journal_refuses: true,
            ..State::default()
        };
        let kinds: Vec<_> = told(&State::default(), &now).into_iter().map(|(_, kind, _)| kind).collect();
        assert_eq!(kinds, ["push", "journal", "certificate"]);
        assert_eq!(told(&now, &now), []);
        assert_eq!(told(&now, &State { journal_refuses: false, ..State::default() })[0].1, "journal");
    }
}
