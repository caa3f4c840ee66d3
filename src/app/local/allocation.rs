//! What a job of Slurm may use, from the variables that Slurm sets for its processes.
//!
//! Source: man 1 sbatch, "OUTPUT ENVIRONMENT VARIABLES".

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::app::command_error::CommandError;
use crate::clock::random_u64;
use crate::host::Machine;
use crate::peer::hostname;

/// Left to nannies and to rask itself of a job's memory, beside a tenth of it. Unit: bytes.
const SPARE_BYTES: u64 = 256 << 20;

/// A job, as one of its processes sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allocation {
    /// `12`, or `12_3` for one of an array.
    pub(crate) id: String,
    /// What Slurm calls this node.
    name: Option<String>,
    pub(crate) nodes: u32,
    /// Of its step: the number of this process among the others.
    pub(crate) task: u32,
    /// Which of its nodes this is.
    node: u32,
    /// Cores, and on how many nodes in a row.
    cores: Vec<(u32, u32)>,
    memory: Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// Unit: MiB.
    OfNode(u64),
    /// Unit: MiB.
    OfCore(u64),
    /// Not limited.
    All,
}

impl Allocation {
    /// The job that this process belongs to. `None`: to none.
    pub(crate) fn here() -> Option<Self> {
        Self::read(|name| std::env::var(name).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| variable(name)?.trim().parse::<u64>().ok();
        let small = |name: &str| number(name).and_then(|number| u32::try_from(number).ok());
        let id = match (number("SLURM_ARRAY_JOB_ID"), number("SLURM_ARRAY_TASK_ID")) {
            (Some(array), Some(task)) => format!("{array}_{task}"),
            (Some(_) | None, Some(_) | None) => number("SLURM_JOB_ID")?.to_string(),
        };
        let limited = |name: &str| number(name).filter(|mib| *mib > 0);
        let memory = match (limited("SLURM_MEM_PER_NODE"), limited("SLURM_MEM_PER_CPU")) {
            (Some(mib), _) => Memory::OfNode(mib),
            (None, Some(mib)) => Memory::OfCore(mib),
            (None, None) => Memory::All,
        };
        Some(Self {
            id,
            name: variable("SLURMD_NODENAME"),
            nodes: small("SLURM_JOB_NUM_NODES").or_else(|| small("SLURM_NNODES")).unwrap_or(1).max(1),
            task: small("SLURM_PROCID").unwrap_or(0),
            node: small("SLURM_NODEID").unwrap_or(0),
            cores: variable("SLURM_JOB_CPUS_PER_NODE").map(|text| by_node(&text)).unwrap_or_default(),
            memory,
        })
    }

    /// A name that no machine had before: of the node and the job.
    pub(crate) fn machine(&self) -> String {
        format!("{}-{}", self.name.clone().unwrap_or_else(hostname), self.id)
    }

    /// What the workers on this node may use.
    pub(crate) fn of_this_node(&self) -> Machine {
        let mut before = 0u32;
        let here = self.cores.iter().find(|(_, times)| {
            before = before.saturating_add(*times);
            self.node < before
        });
        self.share(here.map(|(cores, _)| *cores))
    }

    /// What the workers on each of its nodes may use at least.
    pub(crate) fn of_each_node(&self) -> Machine {
        self.share(self.cores.iter().map(|(cores, _)| *cores).min())
    }

    /// Of the machine, where Slurm does not say.
    fn share(&self, cores: Option<u32>) -> Machine {
        let machine = Machine::look();
        let cores = cores.unwrap_or(machine.cores).max(1);
        let mib = match self.memory {
            Memory::OfNode(mib) => Some(mib),
            Memory::OfCore(mib) => Some(mib.saturating_mul(u64::from(cores))),
            Memory::All => None,
        };
        Machine { cores, memory_bytes: mib.map_or(machine.memory_bytes, for_workers) }
    }
}

/// A job that takes more memory than it asked for is ended: not all of it is the workers'.
fn for_workers(mib: u64) -> u64 {
    let bytes = mib.saturating_mul(1 << 20);
    (bytes / 10 * 9).saturating_sub(SPARE_BYTES).max(bytes / 2)
}

/// `2(x3),4` is 2 on three nodes, then 4 on one. What cannot be read is passed over.
fn by_node(text: &str) -> Vec<(u32, u32)> {
    let part = |part: &str| match part.split_once("(x") {
        Some((cores, times)) => Some((cores.parse().ok()?, times.strip_suffix(')')?.parse().ok()?)),
        None => Some((part.parse().ok()?, 1)),
    };
    text.trim().split(',').filter_map(part).collect()
}

/// A folder on the local disk of a node, for our eyes only. It goes with this value.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes it below `$TMPDIR`, else in `/tmp`.
    pub(crate) fn make() -> Result<Self, CommandError> {
        let path = std::env::temp_dir().join(format!("rask-{:016x}", random_u64()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|why| {
            CommandError::world(format!("cannot make the folder {}: {why}", path.display()))
                .remedy("let $TMPDIR name a folder on a local disk with some room")
        })?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _batch_systems_clean_up_too = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Option<Allocation> {
        Allocation::read(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_process_outside_of_jobs_has_no_allocation() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("SLURM_JOB_ID", "")]), None);
    }

    /// Goal: each node lends what the job has there, whatever the machine has.
    #[test]
    fn each_node_has_its_own_share() {
        let job = |node: &str| {
            let all = [
                ("SLURM_JOB_ID", "7"),
                ("SLURM_JOB_NUM_NODES", "4"),
                ("SLURM_JOB_CPUS_PER_NODE", "2(x3),16"),
                ("SLURM_MEM_PER_CPU", "1024"),
                ("SLURM_NODEID", node),
            ];
            read(&all).expect("a job")
        };
        assert_eq!(job("0").nodes, 4);
        assert_eq!((job("2").of_this_node().cores, job("3").of_this_node().cores), (2, 16));
        assert_eq!(job("3").of_each_node().cores, 2);
        assert_eq!(job("0").of_this_node().memory_bytes, (2u64 << 30) / 10 * 9 - SPARE_BYTES);
        let one = read(&[("SLURM_JOB_ID", "7"), ("SLURM_MEM_PER_NODE", "300")]).expect("a job");
        assert_eq!(one.of_this_node().memory_bytes, 150 << 20, "half at least");
        let odd = read(&[("SLURM_JOB_ID", "7"), ("SLURM_JOB_CPUS_PER_NODE", "x(,2(x"), ("SLURM_MEM_PER_NODE", "0")]);
        assert_eq!(odd.map(|job| job.of_this_node()), Some(Machine::look()));
    }
}
