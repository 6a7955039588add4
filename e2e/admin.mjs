// The page at /admin/, as an operator's browser uses it.
import { until } from './wait.mjs';

export const PASSWORD = 'correct horse battery staple';

/** What an operator's browser may complain of: it asks who it is before anybody has signed in. */
const EXPECTED = /401/;

export const complaints = (page) => page.complaints.filter((one) => !EXPECTED.test(one));

/** The token of the link that the server has printed. */
export function setUpToken(server) {
  return until(() => /\/setup#([\w-]+)/.exec(server.log)?.[1], 'printed: the link for the set-up');
}

/** Makes the first operator without a browser. */
export async function firstOperator(server, user = 'ada') {
  const token = await setUpToken(server);
  return new Operator(server, await Operator.cookie(server, '/setup', { token, user, password: PASSWORD, name: 'Ada Admin' }));
}

/** An operator who speaks HTTP. */
export class Operator {
  constructor(server, cookie) {
    this.server = server;
    this.cookie = cookie;
  }

  static async cookie(server, path, body) {
    const response = await fetch(`${server.url}/api/v1/admin${path}`, { method: 'POST', headers: { 'content-type': 'application/json', 'x-xpush-admin': '1' }, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.headers.get('set-cookie').split(';')[0];
  }

  /** The same one at another server of the installation. */
  at(server) {
    return new Operator(server, this.cookie);
  }

  static async signIn(server, user) {
    return new Operator(server, await Operator.cookie(server, '/sign-in', { user, password: PASSWORD }));
  }

  /** Asks: `{status, body}`. */
  async ask(method, path, body, revision) {
    const headers = { cookie: this.cookie, 'x-xpush-admin': '1', ...(body !== undefined && { 'content-type': 'application/json' }), ...(revision !== undefined && { 'if-match': `"${revision}"` }) };
    const response = await fetch(`${this.server.url}/api/v1/admin${path}`, { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) });
    return { status: response.status, body: await response.json() };
  }

  /** Asks for what is not refused. */
  async call(method, path, body, revision) {
    const { status, body: said } = await this.ask(method, path, body, revision);
    if (status >= 300) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(said)}`);
    return said;
  }

  /** Lets a browser be this operator. */
  async enter(context) {
    const [name, value] = this.cookie.split(/=(.*)/s);
    await context.addCookies([{ name, value, domain: '127.0.0.1', path: '/api/v1/admin', httpOnly: true, sameSite: 'Strict' }]);
  }
}
