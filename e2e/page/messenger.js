// The smallest messenger that shows everything: what a developer would write with @xpush/client.
import { Account, connect, Timeline } from '@xpush/client';

const { server, room } = Object.fromEntries(new URLSearchParams(location.search));
const element = (id) => document.getElementById(id);
const account = new Account(server, { app: 'demo' });

element('sign-in').addEventListener('submit', async (event) => {
  event.preventDefault();
  await account.login({ user: element('user').value, password: element('password').value, device: { id: 'browser', platform: 'web' } });
  start();
});
if (account.signedIn) start();

function start() {
  const xpush = connect(server, { app: 'demo', token: account.token, backoff: { min: 50, max: 500 } });
  xpush.on('state', ({ status }) => (element('state').textContent = status));
  xpush.on('welcome', ({ user }) => (element('me').textContent = user));
  const channel = xpush.channel(room);
  const timeline = new Timeline(channel);
  const draw = () => {
    element('unread').textContent = timeline.unread;
    element('messages').replaceChildren(...timeline.entries.map(line));
  };
  const line = ({ message, state }) => {
    const item = document.createElement('li');
    const { text } = message.data ?? {};
    item.textContent = message.deleted ? '(deleted)' : `${text}${message.edited ? ' (edited)' : ''}`;
    const own = message.from.user === xpush.welcome?.user;
    const readers = [...channel.receipts.values()].filter(({ read }) => read >= message.seq).length;
    item.dataset.state = state === 'sent' && own && readers > 0 ? 'read' : state;
    item.dataset.seq = message.seq ?? '';
    return item;
  };
  timeline.on('change', draw);
  channel.on('read', draw);
  channel.on('typing', (people) => (element('typing').textContent = people.map(({ name, user }) => name ?? user).join(', ')));
  channel.subscribe({ receipts: true, presence: true });
  element('text').addEventListener('input', () => channel.typing());
  element('compose').addEventListener('submit', (event) => {
    event.preventDefault();
    timeline.send({ text: element('text').value });
    element('text').value = '';
  });
  // For what this page has no buttons for.
  Object.assign(window, { account, xpush, channel, timeline });
}
