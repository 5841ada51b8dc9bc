//! Medians, and ratios to ceilings measured in turn with them, as Markdown.

use std::collections::HashMap;
use std::time::Duration;
use std::time::Instant;

use neuroshard::backend::cpu::Cpu;
use neuroshard::ops::Precision;

use crate::Case;
use crate::Size;
use crate::Work;
use crate::ceiling;
use crate::ceiling::Copies;
use crate::ceiling::Instruction;
use crate::ceiling::Stores;
use crate::level;

/// How long to measure.
struct Effort {
    /// One ceiling of arithmetic, one round of a case.
    burst: Duration,
    /// One case.
    case: Duration,
    /// Rounds of one case, at least and at most.
    rounds: (usize, usize),
}

/// The ceilings, and which of the ways to them is best.
struct Ceilings {
    copies: Option<Copies>,
    stores: HashMap<usize, Stores>,
    bf16: HashMap<usize, Instruction>,
    burst: Duration,
}

pub fn print(cases: &[Case], cpus: &[Cpu], size: Size) {
    let effort = match size {
        Size::Tiny => Effort { burst: Duration::ZERO, case: Duration::ZERO, rounds: (1, 1) },
        Size::Full => Effort {
            burst: Duration::from_millis(10),
            case: Duration::from_millis(350),
            rounds: (3, 15),
        },
    };
    let moves = cases.iter().any(|case| matches!(case.work, Work::Bytes(_)));
    let computes = cases.iter().any(|case| matches!(case.work, Work::Flops(..)));
    let start = Instant::now();
    if size == Size::Tiny {
        println!("\nExtents are tiny and measured once: these numbers mean nothing.");
    }
    println!("\nLevel {}. Medians; a ceiling is measured before each round.\n", level());
    let mut ceilings = Ceilings::measure(moves.then(|| Copies::new(size)), computes, cpus, &effort);
    if moves {
        println!("\n### Bound by memory: bytes that must move, of measured copy bandwidth\n");
        rows(cases, cpus, &mut ceilings, &effort, |work| matches!(work, Work::Bytes(_)));
    }
    if computes {
        ceilings.copies = None;
        println!("\n### Bound by arithmetic: of the measured peak\n");
        rows(cases, cpus, &mut ceilings, &effort, |work| matches!(work, Work::Flops(..)));
    }
    println!("\n{:.0} s in all.", start.elapsed().as_secs_f64());
}

impl Ceilings {
    /// Prints each ceiling, and keeps which store and which instruction of bf16 is better.
    fn measure(copies: Option<Copies>, computes: bool, cpus: &[Cpu], effort: &Effort) -> Self {
        let (stores, bf16) = (HashMap::new(), HashMap::new());
        let mut this = Self { copies, stores, bf16, burst: effort.burst };
        println!("| ceiling | threads | measured |\n|---|---|---|");
        for threads in cpus.iter().map(Cpu::threads) {
            let best_of = |what: &str, rate: &mut dyn FnMut() -> f64| {
                let rate = median((0..effort.rounds.0.max(1) * 2 - 1).map(|_| rate()).collect());
                println!("| {what} | {threads} | {:.1} G/s |", rate / 1e9);
                rate
            };
            if let Some(copies) = &mut this.copies {
                let ways = [Stores::Plain, Stores::Streaming, Stores::Library].map(|stores| {
                    let what = format!("copy, {stores:?} stores, bytes read + written");
                    (best_of(&what, &mut || copies.bytes_per_s(stores, threads)), stores)
                });
                let best = ways.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
                this.stores.extend(best.map(|(_, stores)| (threads, stores)));
            }
            if computes {
                let burst = this.burst;
                let flops = |instruction| {
                    let what = format!("{instruction:?}, FLOP");
                    let rate = &mut || ceiling::flops_per_s(instruction, threads, burst);
                    if ceiling::has(instruction) { best_of(&what, rate) } else { 0.0 }
                };
                let dot = flops(Instruction::Bf16Dot) > flops(Instruction::Fma);
                let best = if dot { Instruction::Bf16Dot } else { Instruction::Fma };
                this.bf16.insert(threads, best);
            }
        }
        this
    }

    /// What `work` is measured against, now, per second.
    fn rate(&mut self, work: Work, threads: usize) -> f64 {
        match (work, &mut self.copies) {
            (Work::Bytes(_), Some(copies)) => copies.bytes_per_s(self.stores[&threads], threads),
            (Work::Flops(_, Precision::Bf16), _) => {
                ceiling::flops_per_s(self.bf16[&threads], threads, self.burst)
            }
            _ => ceiling::flops_per_s(Instruction::Fma, threads, self.burst),
        }
    }
}

fn rows(
    cases: &[Case],
    cpus: &[Cpu],
    ceilings: &mut Ceilings,
    effort: &Effort,
    chosen: impl Fn(Work) -> bool,
) {
    let threads = |cpu: &Cpu| format!(" {0} thread(s), G/s | of ceiling |", cpu.threads());
    let columns: String = cpus.iter().map(threads).collect();
    println!("| operation | pass/dtype/shape |{columns}");
    println!("|---|---|{}", "--:|--:|".repeat(cpus.len()));
    for case in cases.iter().filter(|case| chosen(case.work)) {
        let mut body = (case.prepare)();
        let cell = |cpu: &Cpu| {
            let (rate, ratio) = measure(case.work, cpu, &mut body, ceilings, effort);
            format!(" {:.1} | {:.0} % |", rate / 1e9, 100.0 * ratio)
        };
        let cells: String = cpus.iter().map(cell).collect();
        println!("| {} | {} |{cells}", case.op, case.name);
    }
}

/// Medians of the rate, and of its ratio to the ceiling measured just before.
fn measure(
    work: Work,
    cpu: &Cpu,
    body: &mut dyn FnMut(&Cpu),
    ceilings: &mut Ceilings,
    effort: &Effort,
) -> (f64, f64) {
    let start = Instant::now();
    body(cpu);
    let once = start.elapsed();
    let calls = effort.burst.as_nanos().div_ceil(once.as_nanos().max(1)).max(1) as u32;
    let (mut rates, mut ratios) = (Vec::new(), Vec::new());
    let (least, most) = effort.rounds;
    while rates.len() < least || (rates.len() < most && start.elapsed() < effort.case) {
        let ceiling = ceilings.rate(work, cpu.threads());
        let round = Instant::now();
        (0..calls).for_each(|_| body(cpu));
        let rate = work.amount() as f64 * f64::from(calls) / round.elapsed().as_secs_f64();
        rates.push(rate);
        ratios.push(rate / ceiling);
    }
    (median(rates), median(ratios))
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
