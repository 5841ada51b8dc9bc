//! What a launcher tells its processes by environment variables.

/// Reads an environment variable; tests pass their own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The way in which the process was started as one of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// Open MPI's mpirun.
    OpenMpi,
    /// MPICH's mpirun and its kin, or `srun --mpi=pmi2`.
    Pmi,
    /// A launcher that speaks PMIx: `srun --mpi=pmix`, prterun.
    Pmix,
}

/// The place of a process in its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub rank: usize,
    /// Processes of the job.
    pub size: usize,
    /// The variable that says the size.
    pub variable: &'static str,
}

/// The launcher of MPI jobs that started this process, if one did.
pub fn detect(environment: Environment<'_>) -> Option<Launcher> {
    let has = |name| environment(name).is_some();
    if has("OMPI_COMM_WORLD_SIZE") {
        Some(Launcher::OpenMpi)
    } else if has("PMI_RANK") || has("PMI_FD") || has("PMI_PORT") || has("PALS_RANKID") {
        Some(Launcher::Pmi)
    } else if has("PMIX_RANK") {
        Some(Launcher::Pmix)
    } else {
        None
    }
}

/// The place that an MPI launcher or a step of Slurm gives this process.
///
/// A plain batch script and a shell of `salloc` have SLURM_ variables too, but no such step.
pub fn place(environment: Environment<'_>) -> Option<Place> {
    let number = |name| environment(name)?.trim().parse::<usize>().ok();
    let pairs = [
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("PMI_RANK", "PMI_SIZE"),
        ("PALS_RANKID", "PALS_SIZE"),
    ];
    for (rank, variable) in pairs {
        if let (Some(rank), Some(size)) = (number(rank), number(variable)) {
            return Some(Place { rank, size, variable });
        }
    }
    slurm_place(environment)
}

/// The place in a step of Slurm.
pub fn slurm_place(environment: Environment<'_>) -> Option<Place> {
    let number = |name| environment(name)?.trim().parse::<usize>().ok();
    let variable = "SLURM_STEP_NUM_TASKS";
    // The batch script and the extern step have ids near 2^32; SLURM_STEP_ID is unset in a script
    // on most versions.
    number("SLURM_STEP_ID").filter(|step| *step < FIRST_SPECIAL_STEP)?;
    let (rank, size) = (number("SLURM_PROCID")?, number(variable)?);
    Some(Place { rank, size, variable })
}

/// A name that no other job and no other attempt of this job has: NEUROSHARD_JOB, or Slurm's job, step and
/// number of restarts.
pub fn job(environment: Environment<'_>) -> Option<String> {
    environment("NEUROSHARD_JOB").or_else(|| {
        let (job, step) = (environment("SLURM_JOB_ID")?, environment("SLURM_STEP_ID")?);
        let restart = environment("SLURM_RESTART_COUNT").unwrap_or_else(|| "0".into());
        Some(format!("{job}.{step}.{restart}"))
    })
}

/// Slurm's numbers of special steps (batch, extern, interactive, pending) lie above this.
const FIRST_SPECIAL_STEP: usize = 0xffff_fff0;

#[cfg(test)]
mod tests {
    use super::*;

    fn with<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn launchers_are_told_by_their_variables() {
        let cases: [(&[(&str, &str)], _); 6] = [
            (&[], None),
            (&[("OMPI_COMM_WORLD_SIZE", "2"), ("PMIX_RANK", "0")], Some(Launcher::OpenMpi)),
            (&[("PMI_RANK", "1"), ("PMI_SIZE", "2")], Some(Launcher::Pmi)),
            (&[("PMI_FD", "7")], Some(Launcher::Pmi)),
            (&[("PMIX_RANK", "3")], Some(Launcher::Pmix)),
            (&[("SLURM_PROCID", "3")], None),
        ];
        for (variables, want) in cases {
            assert_eq!(detect(&with(variables)), want, "{variables:?}");
        }
    }

    #[test]
    fn places_come_from_launchers_and_from_steps_of_several_tasks() {
        fn found(variables: &[(&str, &str)]) -> Option<(usize, usize)> {
            place(&with(variables)).map(|p| (p.rank, p.size))
        }
        let open_mpi = &[("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "4")];
        assert_eq!(found(open_mpi), Some((1, 4)));
        assert_eq!(found(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")]), Some((0, 2)));
        let (procid, tasks) = (("SLURM_PROCID", "2"), ("SLURM_STEP_NUM_TASKS", "3"));
        assert_eq!(found(&[procid, tasks, ("SLURM_STEP_ID", "0")]), Some((2, 3)));
        // A batch script: no step, or the special one.
        assert_eq!(found(&[procid, ("SLURM_NTASKS", "3")]), None);
        assert_eq!(found(&[procid, tasks, ("SLURM_STEP_ID", "4294967291")]), None);
        assert_eq!(found(&[("PMI_RANK", "x"), ("PMI_SIZE", "2")]), None);
    }
}
