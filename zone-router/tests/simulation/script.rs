//! The script of a zone: what the zone does, and when. A seed determines it.

use std::time::Duration;

use fastrand::Rng;

/// How a zone behaves for a while.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// The time to the headers.
    pub(crate) headers: Delay,
    /// The time to the headers of probes, if it differs.
    pub(crate) probes: Option<Delay>,
    /// The time between two pieces of a body, in milliseconds.
    pub(crate) between: f64,
    /// What the zone does instead of serving.
    pub(crate) reply: Reply,
    /// The share of requests for which it does that.
    pub(crate) reply_odds: f64,
    /// Whether probes are served all the same, so that the zone is half alive.
    pub(crate) spares_probes: bool,
    /// What happens to a body.
    pub(crate) body: Body,
    /// The share of bodies to which it happens.
    pub(crate) body_odds: f64,
}

/// A distribution of times, with noise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delay {
    /// The median, in milliseconds.
    pub(crate) median: f64,
    /// The approximate standard deviation of the logarithm of the times.
    pub(crate) spread: f64,
    /// The share of times that are ten times as long.
    pub(crate) tail: f64,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Serve,
    /// The connection is refused, or the answer is 503.
    Refuse,
    /// There is no answer within the driver's own timeout.
    Hang,
    Deny,
    Throttle,
}

/// What happens to a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Whole,
    /// It ends with an error in the middle.
    Cut,
    /// It gives nothing more within the driver's own timeout.
    Stall,
    /// It gives a piece every half second.
    Trickle,
    /// One bit is flipped.
    Flip,
    /// The object has another size and states it: it is another object under this name.
    Resized,
}

/// The whole life of a zone: its manners and the times from which they apply, the earliest first.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) phases: Vec<(Duration, Manner)>,
    /// The share of blobs that the zone holds.
    pub(crate) holds: f64,
    /// A blob that the zone gives in another manner, and the time from which it does.
    pub(crate) ill: Option<(usize, Duration, Manner)>,
    /// After this time, the zone closes a body that nobody reads.
    pub(crate) closes_unread: Option<Duration>,
}

impl Delay {
    pub(crate) fn steady(median: f64) -> Self {
        Self { median, spread: 0.1, tail: 0.0 }
    }

    pub(crate) fn draw(&self, rng: &mut Rng) -> Duration {
        // The sum of twelve random numbers is close enough to a normal distribution.
        let normal = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        let tail = if rng.f64() < self.tail { 10.0 } else { 1.0 };
        Duration::from_secs_f64(self.median * tail * (normal * self.spread).exp() / 1000.0)
    }
}

impl Manner {
    pub(crate) fn healthy(median: f64) -> Self {
        Self {
            headers: Delay::steady(median),
            probes: None,
            between: 0.0,
            reply: Reply::Serve,
            reply_odds: 0.0,
            spares_probes: false,
            body: Body::Whole,
            body_odds: 0.0,
        }
    }

    pub(crate) fn always(self, reply: Reply) -> Self {
        Self { reply, reply_odds: 1.0, ..self }
    }

    pub(crate) fn bodies(self, body: Body, body_odds: f64) -> Self {
        Self { body, body_odds, ..self }
    }

    pub(crate) fn slower(mut self, factor: f64) -> Self {
        self.headers.median *= factor;
        self
    }

    /// Any behaviour at random, except wrong bytes. Zones that give wrong bytes are made elsewhere.
    pub(crate) fn any(rng: &mut Rng) -> Self {
        let mut manner = Self::honest(rng);
        let odds = [0.02, 0.3, 1.0][rng.usize(..3)];
        match rng.usize(..10) {
            0 => manner = manner.slower(10.0),
            1 => manner.reply = Reply::Refuse,
            2 => manner.reply = Reply::Hang,
            3 => manner.reply = Reply::Deny,
            4 => manner.reply = Reply::Throttle,
            5 => manner.body = Body::Cut,
            6 => manner.body = Body::Stall,
            7 => manner.body = Body::Trickle,
            _ => {}
        }
        manner.spares_probes = rng.u8(..4) == 0;
        manner.reply_odds = odds;
        manner.body_odds = odds;
        manner
    }

    /// A zone that always serves the right bytes, at any speed.
    pub(crate) fn honest(rng: &mut Rng) -> Self {
        let headers = Delay {
            median: 1.0 + rng.f64() * [20.0, 80.0, 300.0][rng.usize(..3)],
            spread: rng.f64() * 0.4,
            tail: [0.0, 0.01, 0.05][rng.usize(..3)],
        };
        let between = [0.0, 2.0, 400.0][rng.usize(..10).saturating_sub(7)];
        Self { headers, between, ..Self::healthy(0.0) }
    }
}

impl Script {
    pub(crate) fn steady(manner: Manner) -> Self {
        Self { phases: vec![(Duration::ZERO, manner)], holds: 1.0, ill: None, closes_unread: None }
    }

    /// Adds this manner from `after` on.
    pub(crate) fn then(mut self, after: Duration, manner: Manner) -> Self {
        self.phases.push((after, manner));
        self
    }

    /// The manner in which the zone gives this blob.
    pub(crate) fn of_blob(&self, blob: Option<usize>, after: Duration) -> Manner {
        let ill = self.ill.filter(|(ill, from, _)| blob == Some(*ill) && *from <= after);
        ill.map_or_else(|| self.at(after), |(_, _, manner)| manner)
    }

    pub(crate) fn at(&self, after: Duration) -> Manner {
        let phase = self.phases.iter().rev().find(|(from, _)| *from <= after);
        phase.map_or(self.phases[0].1, |(_, manner)| *manner)
    }

    /// A random script for a life of this length.
    pub(crate) fn any(rng: &mut Rng, lasts: Duration) -> Self {
        let mut script = Self::steady(Manner::any(rng));
        script.holds = [1.0, 1.0, 0.7, 0.0][rng.usize(..4)];
        match rng.u8(..4) {
            // The zone flaps between two manners.
            0 => {
                let (up, down) = (script.phases[0].1, Manner::any(rng));
                let period = Duration::from_secs_f64(0.2 + rng.f64() * 10.0);
                let times = (1..).map(|times| period * times).take_while(|at| *at < lasts);
                script.phases.extend(times.zip([down, up].into_iter().cycle()));
            }
            1 => {}
            _ => {
                let mut times: Vec<_> = (0..rng.usize(1..4)).map(|_| lasts.mul_f64(rng.f64())).collect();
                times.sort_unstable();
                script.phases.extend(times.into_iter().map(|at| (at, Manner::any(rng))));
            }
        }
        if rng.u8(..3) == 0 {
            let (body, odds) = ([Body::Flip, Body::Resized][rng.usize(..2)], [0.05, 1.0][rng.usize(..2)]);
            script.phases.iter_mut().for_each(|(_, manner)| *manner = manner.bodies(body, odds));
        }
        script
    }
}
