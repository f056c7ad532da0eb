// A `subjobs serve` of the test's own, and requests to it.

import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

export const TOKEN = "browser-token";
export const PROJECT = "2b31ed520ab14c7bebedb6e57f00aa11";

// A project of each demo.
export const DEMO_PROJECT = "0f5c1e7a9b3d42c68e1f7a2b4c6d8e90";

const ACCESS = `
[[principal]]
name = "ops"
kind = "account"
projects = ["*"]
tokens = [{ sha256 = "${createHash("sha256").update(TOKEN).digest("hex")}" }]
`;

export class Server {
  static #started = 0;

  // Options beyond the addresses, which are any free ports at first and the same after a restart. Meanwhile the ports must stay
  // free, so each server has its own loopback address, whose ports no other program uses.
  constructor(...options) {
    this.options = options;
    this.ip = `127.${64 + (Server.#started++ % 64)}.${(process.pid >> 8) & 255}.${process.pid & 255}`;
  }

  static async start(...options) {
    const server = new Server(...options);
    await server.start();
    return server;
  }

  // A server that keeps its subtasks over a restart.
  static async startOnDisk({ withTls = false } = {}) {
    const directory = mkdtempSync(join(tmpdir(), "subjobs-browser-"));
    writeFileSync(join(directory, "access.toml"), ACCESS);
    const server = new Server("--access", join(directory, "access.toml"), "--data-dir", join(directory, "data"));
    server.directory = directory;
    if (withTls) server.makeCertificate();
    await server.start();
    return server;
  }

  // A certificate of the internal listener, which nobody else has signed.
  makeCertificate() {
    const [certificate, key] = ["server.pem", "server.key"].map((name) => join(this.directory, name));
    const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    const subject = ["-subj", "/CN=a test", "-addext", `subjectAltName=IP:${this.ip}`, "-keyout", key, "-out", certificate];
    execFileSync("openssl", [...request, ...subject], { stdio: "ignore" });
    this.options.push("--internal-tls-cert", certificate, "--internal-tls-key", key);
    this.certificate = readFileSync(certificate);
  }

  async start() {
    const addresses = ["--listen", this.public ?? `${this.ip}:0`, "--internal-listen", this.internal ?? `${this.ip}:0`];
    const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("SUBJOBS_") && name !== "RUST_LOG"));
    const child = spawn(process.env.SUBJOBS, ["serve", "--log-format", "json", ...addresses, ...this.options], {
      env: { ...environment, SUBJOBS_DEMO_TOKEN: TOKEN },
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.child = child;
    this.ended = new Promise((resolve) => child.on("exit", resolve));
    const lines = createInterface({ input: child.stderr });
    await new Promise((resolve, reject) => {
      let last = "";
      lines.on("line", (line) => {
        last = line;
        const event = JSON.parse(line);
        const { listener, address } = { ...event, ...event.fields };
        if (event.message === "listening") this[listener] = address;
        if (event.message === "ready") resolve();
      });
      lines.on("close", () => reject(new Error(`the server is not ready: ${last}`)));
    });
  }

  async stop() {
    this.child.kill("SIGTERM");
    await this.ended;
  }

  async remove() {
    await this.stop();
    if (this.directory) rmSync(this.directory, { recursive: true });
  }

  get page() {
    return `${this.certificate ? "https" : "http"}://${this.internal}/`;
  }

  // Sends a request to the internal listener on a new connection, because fetch() trusts no certificate of ours.
  request(path, { method = "GET", headers = {}, body } = {}) {
    const { request } = this.certificate ? https : http;
    const options = { method, headers, agent: false, ca: this.certificate };
    return new Promise((resolve, reject) => {
      const sent = request(new URL(path, this.page), options, async (response) => {
        response.on("error", reject);
        let text = "";
        for await (const part of response.setEncoding("utf8")) text += part;
        resolve({ status: response.statusCode, text });
      });
      sent.on("error", reject).end(body);
    });
  }

  // The project of its reports.
  get project() {
    return this.directory ? PROJECT : DEMO_PROJECT;
  }

  // Reports subtasks, each as [id, job, type, status] and maybe more fields.
  async report(...subtasks) {
    const body = subtasks.map(([id, job_id, job_type, status, more]) => ({ id, job_id, job_type, status, version: Date.now(), ...more }));
    const { status, text } = await this.request(`/v1/${this.project}/app-server-sub-jobs/actions/report`, {
      method: "POST",
      headers: { "X-Auth-Token": TOKEN, "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (status !== 200) throw new Error(`${status}: ${text}`);
  }

  // The counts of the metrics: { type: { status: count } }, without zeros.
  async metrics() {
    const { text } = await this.request("/metrics");
    const counts = {};
    for (const [, type, status, count] of text.matchAll(/^subjobs_subtasks\{job_type="([^"]+)",status="([^"]+)"\} (\d+)$/gm)) {
      if (count !== "0") (counts[type] ??= {})[status] = Number(count);
    }
    return counts;
  }
}
