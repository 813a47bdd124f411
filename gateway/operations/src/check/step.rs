//! The steps of a check, which run one after the other until one fails.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::advice::{Advice, Peer, StepError, advise};
use super::progress::CheckLine;

/// The most characters of an error. Servers influence its text.
const ERROR_MAX: usize = 1000;

/// The name of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepName {
    /// Builds the client from the configuration. Shown only if it fails.
    Configuration,
    /// Resolves the host name.
    Resolve,
    /// Opens a TCP connection.
    Connect,
    /// Opens a TLS session: checks the certificate's chain, name and dates.
    Tls,
    /// Sends a small signed read.
    Authenticate,
    /// Writes a small object.
    Put,
    /// Requests the object's size.
    Head,
    /// Reads a part of the object.
    Range,
    /// Reads the whole object and compares it.
    ReadBack,
    /// Checks the registry's answer to a client without a token.
    Challenge,
    /// Reads the keys with which the registry signs its tokens.
    Keys,
    /// Reads the registry's own health report.
    Health,
    /// Opens the journal's database and its tables.
    Journal,
    /// Logs in with `registry.account`.
    Login,
    /// Lists the repositories that the account may read.
    Catalog,
    /// Tries to add a placement to Quay's database.
    Placements,
    /// Sends a ping to Quay's Redis.
    Lock,
    /// Reads the certificates that clients see, and looks at their dates.
    Certificate,
    /// Connects to the admin API of the gateway that runs, and verifies its certificate.
    Admin,
}

impl StepName {
    /// The name in tables and JSON.
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
            Self::Certificate => "certificate",
            Self::Admin => "admin",
        }
    }
}

/// A step and its outcome.
#[derive(Debug, Clone)]
pub struct Step {
    /// The name of the step.
    pub name: StepName,
    /// The outcome.
    pub outcome: StepOutcome,
    /// How long it took. `None` if it was not reached.
    pub took: Option<Duration>,
}

/// The outcome of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// It passed, possibly with a note.
    Passed(Option<StepNote>),
    /// It failed with this error and advice.
    Failed(String, Advice),
    /// An earlier step failed.
    NotReached,
}

/// A note about a step that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepNote {
    /// Information.
    Info(String),
    /// A problem that will make the step fail later, or that has another effect.
    Warning(String),
}

impl StepNote {
    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Info(text) | Self::Warning(text) => text,
        }
    }
}

/// The steps of one zone, instance or service.
#[derive(Debug, Clone, Default)]
pub struct Steps(Vec<Step>);

impl Steps {
    /// The steps in order.
    #[must_use]
    pub fn all(&self) -> &[Step] {
        &self.0
    }

    /// Whether every step passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.0.iter().all(|step| matches!(step.outcome, StepOutcome::Passed(_)))
    }
}

/// Runs steps and measures them.
pub(super) struct StepRunner {
    steps: Vec<Step>,
    plan: Vec<StepName>,
    peer: Peer,
    line: CheckLine,
}

impl StepRunner {
    /// A runner for steps at `peer`. `plan` names the steps in order.
    pub(super) fn new(peer: Peer, plan: Vec<StepName>, line: CheckLine) -> Self {
        Self { steps: Vec::new(), plan, peer, line }
    }

    /// Runs one step with the timeout `bound`. `None` if it failed; the caller must then run no further step.
    pub(super) async fn step<T>(
        &mut self,
        name: StepName,
        bound: Duration,
        work: impl Future<Output = Result<(T, Option<StepNote>), StepError>>,
    ) -> Option<T> {
        self.line.at(name);
        let start = Instant::now();
        let done = timeout(bound, work).await.unwrap_or(Err(StepError::Timeout(bound)));
        let took = Some(start.elapsed());
        let (outcome, value) = match done {
            Ok((value, note)) => (StepOutcome::Passed(note), Some(value)),
            Err(error) => {
                (StepOutcome::Failed(printable(&error.to_string()), advise(name, &self.peer, &error)), None)
            }
        };
        self.steps.push(Step { name, outcome, took });
        value
    }

    /// All steps, including those that were not reached.
    pub(super) fn end(mut self) -> Steps {
        for name in self.plan.drain(..) {
            if !self.steps.iter().any(|step| step.name == name) {
                self.steps.push(Step { name, outcome: StepOutcome::NotReached, took: None });
            }
        }
        let steps = Steps(self.steps);
        self.line.end(steps.passed());
        steps
    }
}

/// The text on one line, shortened, and without control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(ERROR_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(plan: Vec<StepName>) -> StepRunner {
        StepRunner::new(Peer::default(), plan, super::super::CheckProgress::hidden().line("x"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_has_a_timeout_and_later_steps_are_not_reached() {
        let second = Duration::from_secs(1);
        let mut runner = runner(vec![StepName::Resolve, StepName::Connect, StepName::Tls]);
        assert_eq!(runner.step(StepName::Resolve, second, async { Ok((7, None)) }).await, Some(7));
        let hangs = std::future::pending::<Result<((), Option<StepNote>), StepError>>();
        assert_eq!(runner.step(StepName::Connect, second, hangs).await, None);
        let steps = runner.end();
        assert!(!steps.passed());
        let [resolve, connect, tls] = steps.all() else { panic!("three steps") };
        assert_eq!(resolve.outcome, StepOutcome::Passed(None));
        assert!(
            matches!(&connect.outcome, StepOutcome::Failed(message, _) if message == "not done within 1s")
        );
        assert_eq!(connect.took, Some(second));
        assert_eq!((&tls.outcome, tls.took), (&StepOutcome::NotReached, None));
    }

    #[test]
    fn servers_cannot_control_terminals() {
        assert_eq!(printable("a\x1b[31mb\r\nc"), "a [31mb  c");
        assert_eq!(printable(&"é".repeat(2000)).chars().count(), ERROR_MAX);
    }
}
