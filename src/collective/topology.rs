//! The cores of a host, as the kernel describes them, and how ranks share them.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

/// Logical processors by their numbers, ascending.
pub type Cpus = Vec<usize>;

/// Which processors are near to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// NUMA nodes by number, with their physical cores, each the list of its processors.
    nodes: BTreeMap<usize, Vec<Cpus>>,
}

impl Topology {
    /// Of this host, as far as `allowed` goes. Without /sys: one node, and every processor a core.
    pub fn of_this_host(allowed: &[usize]) -> Self {
        let system = Path::new("/sys/devices/system");
        let read = |path: &str| {
            fs::read_to_string(system.join(path)).ok().and_then(|text| parse_list(text.trim()))
        };
        let mut nodes = Vec::new();
        for node in read("node/online").unwrap_or_default() {
            nodes.push((node, read(&format!("node/node{node}/cpulist")).unwrap_or_default()));
        }
        let siblings =
            |cpu| read(&format!("cpu/cpu{cpu}/topology/thread_siblings_list")).unwrap_or(vec![cpu]);
        Self::new(allowed, &nodes, siblings)
    }

    /// From a list of nodes with their processors, and the processors of every processor's core.
    pub fn new(
        allowed: &[usize],
        nodes: &[(usize, Cpus)],
        siblings: impl Fn(usize) -> Cpus,
    ) -> Self {
        let mut found: BTreeMap<usize, Vec<Cpus>> = BTreeMap::new();
        let mut seen = Vec::new();
        for cpu in allowed {
            if seen.contains(cpu) {
                continue;
            }
            let node =
                nodes.iter().find(|(_, cpus)| cpus.contains(cpu)).map_or(0, |(node, _)| *node);
            let mut core: Cpus =
                siblings(*cpu).into_iter().filter(|sibling| allowed.contains(sibling)).collect();
            if !core.contains(cpu) {
                core = vec![*cpu];
            }
            seen.extend(core.iter().copied());
            found.entry(node).or_default().push(core);
        }
        Self { nodes: found }
    }

    /// The nodes of these processors.
    pub fn nodes_of(&self, cpus: &[usize]) -> Vec<usize> {
        let has = |cores: &Vec<Cpus>| cores.iter().flatten().any(|cpu| cpus.contains(cpu));
        self.nodes.iter().filter(|(_, cores)| has(cores)).map(|(node, _)| *node).collect()
    }

    /// The processors of part `part` of `parts`: whole nodes, or equal parts of a node, where that comes
    /// out even; whole cores where there are enough. `None` if there are fewer processors than parts.
    pub fn share(&self, part: usize, parts: usize) -> Option<Cpus> {
        let nodes: Vec<&Vec<Cpus>> = self.nodes.values().collect();
        let size = |cores: &Vec<Cpus>| cores.iter().map(Vec::len).sum::<usize>();
        let even = nodes.windows(2).all(|pair| size(pair[0]) == size(pair[1]));
        if even && !nodes.is_empty() && parts.is_multiple_of(nodes.len()) {
            let of_node = parts / nodes.len();
            return split(nodes[part / of_node], part % of_node, of_node);
        }
        if even && nodes.len().is_multiple_of(parts) {
            let cores = nodes[range(nodes.len(), part, parts)].iter().copied().flatten();
            return Some(sorted(cores.flatten().copied().collect()));
        }
        let cores: Vec<Cpus> = nodes.into_iter().flatten().cloned().collect();
        split(&cores, part, parts)
    }
}

/// Part `part` of `parts` of these cores; of their processors, where there are fewer cores than parts.
fn split(cores: &[Cpus], part: usize, parts: usize) -> Option<Cpus> {
    if cores.len() >= parts {
        let cores = &cores[range(cores.len(), part, parts)];
        return Some(sorted(cores.iter().flatten().copied().collect()));
    }
    let cpus: Cpus = cores.iter().flatten().copied().collect();
    (cpus.len() >= parts).then(|| sorted(cpus[range(cpus.len(), part, parts)].to_vec()))
}

fn range(len: usize, part: usize, parts: usize) -> Range<usize> {
    len * part / parts..len * (part + 1) / parts
}

fn sorted(mut cpus: Cpus) -> Cpus {
    cpus.sort_unstable();
    cpus
}

/// Of `0-3,8`. `None` if it is no such list.
fn parse_list(text: &str) -> Option<Cpus> {
    let mut numbers = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if last >= MAX_CPUS {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// `0-3,8` of an ascending list.
pub fn format_list(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let text = runs.map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        [only] => only.to_string(),
        [] => String::new(),
    });
    text.collect::<Vec<_>>().join(",")
}

/// More than any kernel counts.
const MAX_CPUS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Processors `0..cpus`, on nodes of equal size; with two to a core, i and i + cpus / 2 are one.
    fn host(cpus: usize, nodes: usize, to_a_core: usize) -> Topology {
        let cores = cpus / to_a_core;
        let node = |n| (0..cpus).filter(|cpu| (cpu % cores) * nodes / cores == n).collect();
        let nodes: Vec<(usize, Cpus)> = (0..nodes).map(|n| (n, node(n))).collect();
        let siblings = |cpu: usize| (0..cpus).filter(|c| c % cores == cpu % cores).collect();
        Topology::new(&(0..cpus).collect::<Vec<_>>(), &nodes, siblings)
    }

    fn shares(host: &Topology, parts: usize) -> Vec<String> {
        (0..parts)
            .map(|part| host.share(part, parts).map_or("none".into(), |cpus| format_list(&cpus)))
            .collect()
    }

    #[test]
    fn lists_are_read_and_written() {
        for (text, cpus) in [("0-3,8", vec![0, 1, 2, 3, 8]), ("", vec![]), ("5", vec![5])] {
            assert_eq!(parse_list(text), Some(cpus.clone()));
            assert_eq!(format_list(&cpus), text);
        }
        for wrong in ["a", "1-", "0-99999999999", "0-9999999"] {
            assert_eq!(parse_list(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ranks_get_whole_nodes_or_equal_parts_of_a_node() {
        let two_nodes = host(8, 2, 1);
        assert_eq!(shares(&two_nodes, 1), ["0-7"]);
        assert_eq!(shares(&two_nodes, 2), ["0-3", "4-7"]);
        assert_eq!(shares(&two_nodes, 4), ["0-1", "2-3", "4-5", "6-7"]);
        assert_eq!(shares(&two_nodes, 8).len(), 8);
        assert_eq!(shares(&host(8, 4, 1), 2), ["0-3", "4-7"]);
        // Three ranks cannot have whole parts of two nodes.
        assert_eq!(shares(&two_nodes, 3), ["0-1", "2-4", "5-7"]);
        assert_eq!(shares(&host(4, 2, 1), 8), vec!["none"; 8]);
    }

    #[test]
    fn the_processors_of_a_core_stay_together_while_there_are_enough_cores() {
        let host = host(8, 2, 2);
        assert_eq!(host.nodes_of(&[0, 4]), [0]);
        assert_eq!(shares(&host, 2), ["0-1,4-5", "2-3,6-7"]);
        assert_eq!(shares(&host, 4), ["0,4", "1,5", "2,6", "3,7"]);
        assert_eq!(shares(&host, 8), ["0", "4", "1", "5", "2", "6", "3", "7"]);
    }

    #[test]
    fn nodes_of_unequal_size_are_cut_as_one() {
        let nodes = [(0, vec![0, 1, 2, 3]), (1, vec![4, 5])];
        let host = Topology::new(&[0, 1, 2, 3, 4, 5], &nodes, |cpu| vec![cpu]);
        assert_eq!(shares(&host, 2), ["0-2", "3-5"]);
        assert_eq!(host.nodes_of(&[3, 4]), [0, 1]);
        // Only what is allowed counts, and an unknown processor is on node 0.
        let some = Topology::new(&[2, 3, 4, 5, 9], &nodes, |cpu| vec![cpu, cpu + 100]);
        assert_eq!(shares(&some, 1), ["2-5,9"]);
        assert_eq!(some.nodes_of(&[9]), [0]);
    }

    #[test]
    fn this_host_has_the_allowed_processors_once() {
        let allowed = [0];
        let here = Topology::of_this_host(&allowed);
        assert_eq!(here.share(0, 1), Some(vec![0]));
    }
}
