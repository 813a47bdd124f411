//! Measures the time and the processor time of work.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The unit of the times in `/proc/self/stat`. `USER_HZ` is 100 on all current architectures.
const TICK: Duration = Duration::from_millis(10);

/// The cost of a turn.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// The elapsed time.
    pub wall: Duration,
    /// The processor time on all cores, including system calls. The servers' time is not included.
    pub cpu: Duration,
}

/// The process whose processor time is measured.
#[derive(Debug, Clone, Copy)]
pub enum Process {
    /// This process.
    Own,
    /// Child processes that have ended.
    Children,
    /// A running process.
    Running(u32),
}

/// Measures one turn.
///
/// # Errors
/// The errors of the turn, or the processor time cannot be read.
pub async fn timed(process: Process, turn: impl Future<Output = Result<()>>) -> Result<Cost> {
    let (cpu, start) = (cpu(process)?, Instant::now());
    turn.await?;
    let wall = start.elapsed();
    Ok(Cost { wall, cpu: self::cpu(process)?.saturating_sub(cpu) })
}

/// The processor time of a process so far, including system calls.
///
/// It is read from `proc_pid_stat(5)`: fields 14 and 15 for the process, 16 and 17 for its ended children.
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
    // The name, field 2, is in parentheses and may contain spaces.
    let (_, fields) = stat.rsplit_once(") ").with_context(|| format!("{file} is another"))?;
    let ticks = fields.split(' ').skip(first - 3).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(TICK * ticks)
}

/// The peak memory of a process so far, in bytes: `VmHWM` (`proc_pid_status(5)`).
///
/// # Errors
/// There is no such process.
pub fn peak_memory(id: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmHWM")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}

/// The median. For an even number of times, the larger of the two middle values.
#[must_use]
pub fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
