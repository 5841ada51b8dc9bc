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
