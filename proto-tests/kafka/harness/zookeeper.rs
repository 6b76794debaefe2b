//! ZooKeeper, which brokers before KRaft keep their metadata in. One server; Kafka's jars bring it along.

use std::fs;
use std::net::TcpStream;
use std::path::Path;

use super::cluster::{BOOT_LIMIT, Version, free_port, java};
use super::process::{Process, wait_ready};

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(super) struct ZooKeeper {
    port: u16,
    _process: Process,
}

impl ZooKeeper {
    /// Starts the release that `version` of Kafka was built with, and waits until it listens.
    pub(super) fn start(version: Version, folder: &Path) -> Self {
        let port = free_port();
        let (file, data, log) = (folder.join("zoo.cfg"), folder.join("zookeeper"), folder.join("zookeeper.log"));
        let text = format!(
            "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n",
            data.display()
        );
        fs::write(&file, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        let mut command = java(version, 64, true);
        command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(&file);
        let mut process = Process::start(&command, &log, &log, Some(&data));
        wait_ready(&format!("ZooKeeper on port {port}"), &mut process, BOOT_LIMIT, || {
            TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
        });
        Self { port, _process: process }
    }

    /// `zookeeper.connect` of a broker.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
