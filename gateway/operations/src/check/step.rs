//! Steps of a check, one after the other: the first that fails ends them.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::advice::{Advice, Peer, Trouble, advise};
use super::progress::Line;

/// Characters shown of one error; servers have a say in it.
const ERROR_MAX: usize = 1000;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// The configuration is understood; only shown where it is not.
    Configuration,
    /// The host has an address.
    Resolve,
    /// TCP.
    Connect,
    /// TLS, with the certificate's chain, name and dates.
    Tls,
    /// A small signed read.
    Authenticate,
    /// A small object is written.
    Put,
    /// It is there, in its size.
    Head,
    /// A part of it is read.
    Range,
    /// The whole of it is read and compared.
    ReadBack,
    /// What the registry tells a client who has no token.
    Challenge,
    /// The keys that the registry signs its tokens with.
    Keys,
    /// What the registry says of its own health.
    Health,
    /// The journal's database lets us in, and its tables are ours.
    Journal,
    /// `registry.account` is let in.
    Login,
    /// It may list what it reads.
    Catalog,
    /// Quay's database lets us add placements.
    Placements,
    /// Quay's Redis answers.
    Lock,
}

impl Name {
    /// As it is printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Authenticate => "authenticate",
            Self::Put => "put",
            Self::Head => "head",
            Self::Range => "range",
            Self::ReadBack => "read back",
            Self::Challenge => "challenge",
            Self::Keys => "keys",
            Self::Health => "health",
            Self::Journal => "journal",
            Self::Login => "login",
            Self::Catalog => "catalog",
            Self::Placements => "placements",
            Self::Lock => "lock",
        }
    }
}

/// One step and how it ended.
#[derive(Debug, Clone)]
pub struct Step {
    /// What was tried.
    pub name: Name,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, unless it was not reached.
    pub took: Option<Duration>,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Well; perhaps there is something to know.
    Passed(Option<Note>),
    /// It failed: what was said, and what to do about it.
    Failed(String, Advice),
    /// An earlier one failed.
    NotReached,
}

/// Something to know of a step that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Good to know.
    Info(String),
    /// Look at it before it fails.
    Warning(String),
}

impl Note {
    /// Its words.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Info(text) | Self::Warning(text) => text,
        }
    }
}

/// The steps of one zone, or of the registry.
#[derive(Debug, Clone, Default)]
pub struct Steps(Vec<Step>);

impl Steps {
    /// In their order.
    #[must_use]
    pub fn all(&self) -> &[Step] {
        &self.0
    }

    /// Whether every one passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.0.iter().all(|step| matches!(step.outcome, Outcome::Passed(_)))
    }
}

/// Takes steps, measures them, and knows which are still to come.
pub(super) struct Walk {
    steps: Vec<Step>,
    plan: Vec<Name>,
    peer: Peer,
    line: Line,
}

impl Walk {
    /// Steps at `peer`, in the order of `plan`.
    pub(super) fn new(peer: Peer, plan: Vec<Name>, line: Line) -> Self {
        Self { steps: Vec::new(), plan, peer, line }
    }

    /// Takes one step within `bound`; `None` if it failed, and then no further one is to be taken.
    pub(super) async fn step<T>(
        &mut self,
        name: Name,
        bound: Duration,
        work: impl Future<Output = Result<(T, Option<Note>), Trouble>>,
    ) -> Option<T> {
        self.line.at(name);
        let start = Instant::now();
        let done = timeout(bound, work).await.unwrap_or(Err(Trouble::Late(bound)));
        let took = Some(start.elapsed());
        let (outcome, value) = match done {
            Ok((value, note)) => (Outcome::Passed(note), Some(value)),
            Err(trouble) => {
                (Outcome::Failed(printable(&trouble.to_string()), advise(name, &self.peer, &trouble)), None)
            }
        };
        self.steps.push(Step { name, outcome, took });
        value
    }

    /// All steps, those that were not reached too.
    pub(super) fn end(mut self) -> Steps {
        for name in self.plan.drain(..) {
            if !self.steps.iter().any(|step| step.name == name) {
                self.steps.push(Step { name, outcome: Outcome::NotReached, took: None });
            }
        }
        let steps = Steps(self.steps);
        self.line.end(steps.passed());
        steps
    }
}

/// On one line, bounded, and without what would steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(ERROR_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(plan: Vec<Name>) -> Walk {
        Walk::new(Peer::default(), plan, super::super::Progress::hidden().line("x"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_has_its_bound_and_its_failure_ends_the_walk() {
        let second = Duration::from_secs(1);
        let mut walk = walk(vec![Name::Resolve, Name::Connect, Name::Tls]);
        assert_eq!(walk.step(Name::Resolve, second, async { Ok((7, None)) }).await, Some(7));
        let hangs = std::future::pending::<Result<((), Option<Note>), Trouble>>();
        assert_eq!(walk.step(Name::Connect, second, hangs).await, None);
        let steps = walk.end();
        assert!(!steps.passed());
        let [resolve, connect, tls] = steps.all() else { panic!("three steps") };
        assert_eq!(resolve.outcome, Outcome::Passed(None));
        assert!(matches!(&connect.outcome, Outcome::Failed(said, _) if said == "not done within 1s"));
        assert_eq!(connect.took, Some(second));
        assert_eq!((&tls.outcome, tls.took), (&Outcome::NotReached, None));
    }

    #[test]
    fn servers_do_not_steer_terminals() {
        assert_eq!(printable("a\x1b[31mb\r\nc"), "a [31mb  c");
        assert_eq!(printable(&"é".repeat(2000)).chars().count(), ERROR_MAX);
    }
}
