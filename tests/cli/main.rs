//! The program as its users run it: real processes, signals, full disks, damaged files.

mod bad_config;
mod bad_files;
mod bench;
mod commands;
mod config;
mod dataset;
mod full_disk;
mod hugging_face;
mod interrupted;
mod killed_ranks;
mod launch;
mod plan;
mod process;
mod shell;
mod simulate;
mod tensorboard;
mod watch;
