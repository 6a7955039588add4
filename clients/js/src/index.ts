export { connect, Client, type ClientEvents, type ClientOptions, type State } from "./client.ts";
export {
  Channel,
  type ChannelEvents,
  type Gap,
  type Presence,
  type PublishOptions,
  type Recovered,
  type Stats,
  type SubscribeOptions,
} from "./channel.ts";
export type { Backoff } from "./backoff.ts";
export type { GuestStorage } from "./guest.ts";
export { openSocketIo, type Link, type LinkEvents, type OpenLink } from "./link.ts";
export {
  newId,
  XpushError,
  type Answer,
  type Credentials,
  type Data,
  type ErrorBody,
  type HistoryPage,
  type Message,
  type Moved,
  type Person,
  type Position,
  type PresenceChange,
  type PresenceList,
  type Published,
  type Retry,
  type Signal,
  type Subscribed,
  type Welcome,
} from "./protocol.ts";
