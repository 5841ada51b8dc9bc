# Sourced by the other scripts: makes sure of what they need, or says exactly what is missing.

# Installs Debian packages where root or sudo without a password is at hand.
install_packages() {
  if [ "$(id -u)" = 0 ]; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"
  else
    return 1
  fi
}

require_rust() {
  if ! command -v cargo >/dev/null && [ -f "$HOME/.cargo/env" ]; then . "$HOME/.cargo/env"; fi
  if ! command -v cargo >/dev/null; then
    echo "Rust is missing. Install it from https://rustup.rs (1.89 or newer), then run this again." >&2
    exit 1
  fi
}

require_cc() {
  command -v cc >/dev/null && return
  echo "no C compiler; installing gcc"
  if ! install_packages gcc libc6-dev; then
    echo "A C compiler is missing (BLAKE3's assembly and linking need it): apt install gcc libc6-dev" >&2
    exit 1
  fi
}

# What the laboratories of the tests need (tests/lab): two MPI libraries, Slurm, network namespaces.
# Says loudly what is skipped for want of it, and fails.
require_lab() {
  if [ "$(id -u)" != 0 ]; then
    echo "SKIPPED LOUDLY: $(basename "$0") needs root (private networks and a Slurm of its own)"
    return 1
  fi
  local program missing=
  for program in mpirun.openmpi mpirun.mpich sbatch slurmctld slurmd munged ip; do
    command -v $program >/dev/null || missing+=" $program"
  done
  # srun --mpi=pmix loads it, by the name that only the development package has.
  [ -n "$(find -L /usr/lib -name libpmix.so -print -quit 2>/dev/null)" ] || missing+=" libpmix-dev"
  [ -z "$missing" ] && { require_namespaces; return; }
  echo "installing what the tests with real MPI and Slurm need:$missing"
  if ! install_packages openmpi-bin mpich libpmix-dev slurm-wlm munge iproute2 >/dev/null; then
    echo "SKIPPED LOUDLY: $(basename "$0"):$missing missing, and apt could not install" \
      "openmpi-bin mpich libpmix-dev slurm-wlm munge iproute2"
    return 1
  fi
  require_namespaces
}

require_namespaces() {
  unshare --pid --fork --net --uts --ipc --mount true 2>/dev/null && return
  echo "SKIPPED LOUDLY: $(basename "$0"): this machine does not allow private namespaces (unshare)"
  return 1
}

# What `mpirun` must be told on a workstation or in a container; other MPIs ignore it.
mpi_environment() {
  # Open MPI refuses to start as root unless both of these are set.
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  # It counts one rank a core, hyperthreads and containers' limits aside; NeuroShard checks itself.
  export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
  # It ties each rank to one core; NeuroShard binds ranks to all the cores that are theirs.
  export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none
}

# A host compiler for nvcc and the emulator.
require_cxx() {
  command -v g++ >/dev/null && return
  echo "no C++ compiler; installing g++"
  if ! install_packages g++; then
    echo "A C++ compiler is missing (nvcc uses it): apt install g++" >&2
    exit 1
  fi
}

# pip, to fetch NVIDIA's compiler.
require_pip() {
  python3 -m pip --version >/dev/null 2>&1 && return
  echo "no pip; installing python3-pip"
  if ! install_packages python3 python3-pip; then
    echo "pip is missing (it fetches NVIDIA's compiler): apt install python3-pip" >&2
    exit 1
  fi
}

# Sets $program to what NEUROSHARD_BIN names, else to a debug build.
debug_program() {
  program=${NEUROSHARD_BIN:-}
  if [ -z "$program" ]; then
    require_rust
    cargo build --locked
    program=${CARGO_TARGET_DIR:-target}/debug/neuroshard
  fi
}
