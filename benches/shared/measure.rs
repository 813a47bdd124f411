//! Work that is timed, and what it takes of the processor.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// A unit of the times in `/proc/self/stat`: `USER_HZ` is 100 on every architecture of today.
const TICK: Duration = Duration::from_millis(10);

/// What a turn took.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// From nothing to done.
    pub wall: Duration,
    /// Of all cores, system calls included; the servers' not.
    pub cpu: Duration,
}

/// Whose processor time counts.
#[derive(Debug, Clone, Copy)]
pub enum Process {
    /// This one.
    Own,
    /// Those it started and that have ended.
    Children,
    /// One that runs.
    Running(u32),
}

/// Times one turn.
///
/// # Errors
/// Those of the turn; the kernel does not say.
pub async fn timed(process: Process, turn: impl Future<Output = Result<()>>) -> Result<Cost> {
    let (cpu, start) = (cpu(process)?, Instant::now());
    turn.await?;
    let wall = start.elapsed();
    Ok(Cost { wall, cpu: self::cpu(process)?.saturating_sub(cpu) })
}

/// What a process has taken of the processor so far, system calls included.
///
/// `proc_pid_stat(5)`: fields 14 and 15 for the process, 16 and 17 for children waited for.
///
/// # Errors
/// There is no such process.
pub fn cpu(process: Process) -> Result<Duration> {
    let (file, first) = match process {
        Process::Own => ("/proc/self/stat".to_owned(), 14),
        Process::Children => ("/proc/self/stat".to_owned(), 16),
        Process::Running(id) => (format!("/proc/{id}/stat"), 14),
    };
    let stat = std::fs::read_to_string(&file).with_context(|| file.clone())?;
    // The name, field 2, is in parentheses and may have spaces.
    let (_, fields) = stat.rsplit_once(") ").with_context(|| format!("{file} is another"))?;
    let ticks = fields.split(' ').skip(first - 3).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(TICK * ticks)
}

/// The most memory that a process has had so far, bytes: `VmHWM` (`proc_pid_status(5)`).
///
/// # Errors
/// There is no such process.
pub fn peak_memory(id: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmHWM")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}

/// The median; of an even number the later of the two in the middle.
#[must_use]
pub fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
