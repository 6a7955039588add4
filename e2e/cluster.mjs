// A whole cluster of real processes on free ports: ZooKeeper, Redis, a MongoDB-compatible server, session servers, channel servers, and nginx with
// config/nginx/xpush.conf in front. Every one of them is ended by its pid.
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { PATIENCE_MS, Program, answers } from './program.mjs';
import { missingS3 } from './s3.mjs';
import { BINARY, freePort } from './server.mjs';
import { until } from './wait.mjs';

export { PATIENCE_MS };

/** Debian's `libzookeeper-java`, which names in its manifest most of what it needs. */
const ZOOKEEPER = ['/usr/share/java/zookeeper.jar', '/usr/share/java/netty-codec.jar', '/usr/share/java/netty-resolver.jar'];

/** Speaks MongoDB's protocol; there is no package of MongoDB itself. */
const SECANTUSDB = resolve(process.env.SECANTUSDB_BIN ?? join(import.meta.dirname, '../target/xtask/venv/bin/secantusd-py'));

const SITE = join(import.meta.dirname, '../config/nginx/xpush.conf');

/** What the site's file calls each of our servers. */
const SAMPLE = { s1: '10.0.0.1:8000', s2: '10.0.0.2:8000', n1: '10.0.0.1:8001', n2: '10.0.0.2:8001', n3: '10.0.0.3:8001' };

export const CHANNEL_SERVERS = ['n1', 'n2', 'n3'];

/** What a cluster cannot do without, as far as it is not there: lines with hints. */
export function missingServices() {
  const path = (process.env.PATH ?? '').split(':').concat('/usr/sbin');
  const found = (program) => path.some((folder) => existsSync(join(folder, program)));
  const lines = [];
  if (!found('redis-server')) lines.push('redis-server (apt-get install redis-server)');
  if (!found('nginx')) lines.push('nginx (apt-get install nginx)');
  if (!found('java') || !ZOOKEEPER.every(existsSync)) lines.push('ZooKeeper (apt-get install zookeeper default-jre-headless)');
  if (!existsSync(SECANTUSDB)) lines.push(`${SECANTUSDB} (cargo xtask test installs it, or set SECANTUSDB_BIN)`);
  return [...lines, ...missingS3()];
}

export class Cluster {
  #folder = mkdtempSync(join(tmpdir(), 'xpush-cluster-'));
  #services = [];
  #servers = new Map();
  #ports = {};

  /** Everything, ready to be used; `apps` is configuration, and `redis` more of Redis' part. */
  static async start(apps, { redis = '' } = {}) {
    const cluster = new Cluster();
    try {
      await cluster.#launch(apps, redis);
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  async #launch(apps, redis) {
    const names = ['zookeeper', 'redis', 'mongo', 'nginx', ...Object.keys(SAMPLE)];
    for (const name of names) this.#ports[name] = await freePort();
    await Promise.all([this.#zookeeper(), this.#redis(), this.#mongo()]);
    writeFileSync(
      this.config,
      `default_app = "demo"\ntrusted_proxies = ["127.0.0.1"]\n
[zookeeper]\nservers = "127.0.0.1:${this.#ports.zookeeper}"\nsession_timeout = "4s"\n
[redis]\nurl = "${this.redis}"\n${redis}\n
[mongodb]\nurl = "mongodb://127.0.0.1:${this.#ports.mongo}/?directConnection=true"\n${apps}`,
      { mode: 0o600 },
    );
    await Promise.all(Object.keys(SAMPLE).map((name) => this.launch(name)));
    await this.#nginx();
    await this.settled(CHANNEL_SERVERS);
  }

  get config() {
    return join(this.#folder, 'xpush.toml');
  }

  /** Where Redis is. */
  get redis() {
    return `redis://127.0.0.1:${this.#ports.redis}`;
  }

  /** Where everybody connects. */
  get url() {
    return `http://127.0.0.1:${this.#ports.nginx}`;
  }

  /** Where one server is reached. */
  urlOf(name) {
    return `http://127.0.0.1:${this.#ports[name]}`;
  }

  /** What a server has logged. */
  logOf(name) {
    return this.#servers.get(name)?.log ?? '';
  }

  #dir(name) {
    const folder = join(this.#folder, name);
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  /** Ends a service and starts it again where it was: `zookeeper`, `redis` or `mongo`. What it wrote is there again; Redis keeps nothing. */
  async restart(name) {
    const index = this.#services.findIndex((service) => service.name === name);
    await this.#services[index].end('SIGTERM');
    this.#services.splice(index, 1);
    await { zookeeper: () => this.#zookeeper(), redis: () => this.#redis(), mongo: () => this.#mongo() }[name]();
  }

  async #zookeeper() {
    const [folder, port] = [this.#dir('zookeeper'), this.#ports.zookeeper];
    const file = join(folder, 'zoo.cfg');
    writeFileSync(
      file,
      `tickTime=500\nminSessionTimeout=1000\nmaxSessionTimeout=60000\ndataDir=${folder}\nclientPortAddress=127.0.0.1\nclientPort=${port}\nmaxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=*\n`,
    );
    const java = ['-Xmx128m', '-cp', ZOOKEEPER.join(':'), 'org.apache.zookeeper.server.quorum.QuorumPeerMain', file];
    await this.#service('zookeeper', 'java', java).ready(() => answers(port, 'ruok', 'imok'));
  }

  async #redis() {
    const port = this.#ports.redis;
    const args = ['--port', port, '--bind', '127.0.0.1', '--dir', this.#dir('redis'), '--save', '', '--appendonly', 'no'];
    await this.#service('redis', 'redis-server', args).ready(() => answers(port, 'PING\r\n', 'PONG'));
  }

  async #mongo() {
    const [folder, port] = [this.#dir('mongo'), this.#ports.mongo];
    const args = ['--host', '127.0.0.1', '--port', port, '--log-level', 'ERROR', '--storage-path', join(folder, 'data')];
    await this.#service('mongo', SECANTUSDB, args, { cwd: folder, env: { ...process.env, HOME: folder } }).ready(() => answers(port));
  }

  async #nginx() {
    const [folder, port] = [this.#dir('nginx'), this.#ports.nginx];
    let site = readFileSync(SITE, 'utf8').replace('listen 80;', `listen 127.0.0.1:${port};`).replaceAll('/etc/nginx/xpush.htpasswd', join(folder, 'htpasswd'));
    for (const [name, address] of Object.entries(SAMPLE)) {
      if (!site.includes(`server ${address}`)) throw new Error(`${SITE} does not know ${address}`);
      site = site.replace(`server ${address}`, `server 127.0.0.1:${this.#ports[name]}`);
    }
    writeFileSync(join(folder, 'site.conf'), site);
    // operator:secret
    writeFileSync(join(folder, 'htpasswd'), 'operator:{PLAIN}secret\n');
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${join(folder, kind)};`).join(' ');
    const file = join(folder, 'nginx.conf');
    // One process, which nothing outlives.
    writeFileSync(
      file,
      `daemon off; master_process off; pid ${folder}/pid; error_log stderr warn;\nevents { worker_connections 1024; }\nhttp { access_log off; ${temporary} include ${folder}/site.conf; }\n`,
    );
    const path = `${process.env.PATH}:/usr/sbin`;
    await this.#service('nginx', 'nginx', ['-e', 'stderr', '-p', folder, '-c', file], { env: { ...process.env, PATH: path } }).ready(
      async () => (await fetch(`${this.url}/api/v1/assign?channel=chat:1`).catch(() => null))?.status !== undefined,
    );
  }

  #service(name, program, args, options) {
    const service = new Program(name, program, args.map(String), options);
    this.#services.push(service);
    return service;
  }

  /** Starts a server, anew or for the first time. */
  async launch(name) {
    const folder = this.#dir(name);
    const env = { ...process.env, XPUSH_CLUSTER__NAME: name, XPUSH_ADVERTISE_URL: this.urlOf(name) };
    const listen = `127.0.0.1:${this.#ports[name]}`;
    const role = name.startsWith('s') ? 'session' : 'channel';
    const args = [role, '--config', this.config, '--listen', listen, '--data-dir', join(folder, 'data')];
    const server = new Program(name, BINARY, args, { cwd: folder, env });
    this.#servers.set(name, server);
    await server.ready(async () => (await fetch(`${this.urlOf(name)}/readyz`).catch(() => null))?.ok);
  }

  /** Ends a server; its exit code. */
  end(name, signal) {
    return this.#servers.get(name).end(signal);
  }

  /** Runs `xpush ARGS` as an operator does: what it prints. */
  async command(...args) {
    const { stdout } = await promisify(execFile)(BINARY, [...args, '--config', this.config], { cwd: this.#folder, timeout: PATIENCE_MS });
    return stdout;
  }

  /** What `xpush nodes --json` says. */
  async nodes() {
    return JSON.parse(await this.command('nodes', '--json'));
  }

  /** The name of the server with this id. */
  async nameOf(id) {
    return (await this.nodes()).nodes.find((node) => node.id === id)?.name;
  }

  /** Waits until exactly these channel servers are given channels. */
  settled(names) {
    const wanted = names.toSorted().join();
    return until(
      async () => {
        const { nodes } = await this.nodes();
        return nodes.filter(({ weight }) => weight > 0).map(({ name }) => name).toSorted().join() === wanted;
      },
      `a ring of ${wanted}`,
      PATIENCE_MS,
    );
  }

  /** The sum of a metric over the channel servers that answer. */
  async metric(name) {
    let sum = 0;
    for (const server of CHANNEL_SERVERS) {
      const response = await fetch(`${this.urlOf(server)}/metrics`, { headers: { connection: 'close' } }).catch(() => null);
      const lines = ((await response?.text()) ?? '').split('\n').filter((line) => line.startsWith(name) && /^[ {]/.test(line.slice(name.length)));
      for (const line of lines) sum += Number(line.slice(line.lastIndexOf(' ')));
    }
    return sum;
  }

  /** Ends everything, servers first, and removes what they stored. */
  async stop() {
    await Promise.all([...this.#servers.values()].map((server) => server.end()));
    await Promise.all(this.#services.map((service) => service.end()));
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
