//! Turns of both sides, timed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// A unit of the times in `/proc/self/stat`: `USER_HZ` is 100 on every architecture of today.
const TICK: Duration = Duration::from_millis(10);

/// What a turn took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// From nothing to done.
    pub(crate) wall: Duration,
    /// Of all cores, system calls included; the servers' not.
    pub(crate) cpu: Duration,
}

/// Whose processor time counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Process {
    /// This one.
    Own,
    /// Those it started and that have ended.
    Children,
}

/// Times one turn.
pub(crate) async fn timed(process: Process, turn: impl Future<Output = Result<()>>) -> Result<Cost> {
    let (cpu, start) = (cpu(process)?, Instant::now());
    turn.await?;
    let wall = start.elapsed();
    Ok(Cost { wall, cpu: self::cpu(process)?.saturating_sub(cpu) })
}

/// `proc_pid_stat(5)`: fields 14 and 15 for the process, 16 and 17 for children waited for.
fn cpu(process: Process) -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name, field 2, is in parentheses and may have spaces.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/self/stat is another")?;
    let first = match process {
        Process::Own => 14,
        Process::Children => 16,
    };
    let ticks = fields.split(' ').skip(first - 3).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(TICK * ticks)
}

/// The median; of an even number the later of the two in the middle.
pub(crate) fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
