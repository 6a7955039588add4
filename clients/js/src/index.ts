export { type Assign } from "./assign.ts";
export {
  Account,
  type AccountEvents,
  type AccountOptions,
  type AccountStorage,
  type DeviceInfo,
  type Login,
  type Registration,
  type SignedIn,
} from "./account.ts";
export { connect, Client, type ClientEvents, type ClientOptions, type PublishToOptions, type State } from "./client.ts";
export {
  Channel,
  type ChangeOptions,
  type ChannelEvents,
  type Enrolment,
  type Gap,
  type Presence,
  type PublishOptions,
  type Recovered,
  type SignalOptions,
  type Stats,
  type SubscribeOptions,
} from "./channel.ts";
export type { Backoff } from "./backoff.ts";
export type { FileReference, StoredFile, UploadOptions } from "./files.ts";
export type { GuestStorage } from "./guest.ts";
export { openSocketIo, type Link, type LinkEvents, type OpenLink } from "./link.ts";
export {
  newId,
  XpushError,
  type Answer,
  type Changed,
  type Conversation,
  type Conversations,
  type Credentials,
  type Data,
  type Deletion,
  type Edit,
  type ErrorBody,
  type HistoryPage,
  type Marker,
  type Member,
  type Message,
  type Moved,
  type Notification,
  type Person,
  type Position,
  type PresenceChange,
  type PresenceList,
  type Present,
  type Progress,
  type Published,
  type Receipt,
  type Retry,
  type Revision,
  type SearchHit,
  type SearchPage,
  type Signal,
  type Status,
  type Subscribed,
  type Welcome,
} from "./protocol.ts";
export type { Shown } from "./shown.ts";
export type { Run } from "./stretch.ts";
export { Timeline, type TimelineEntry, type TimelineEvents, type TimelineOptions } from "./timeline.ts";
export type { TokenReason, TokenSource } from "./token.ts";
