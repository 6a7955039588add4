const SERIES = 7;

export interface AvatarProps {
  /** The user id, which decides the colour. */
  user: string;
  /** What the initials come from; the user id when absent. */
  name: string | undefined;
}

/** Initials in the user's own colour; decoration beside a name. */
export function Avatar({ user, name }: AvatarProps) {
  return (
    <span class={`avatar series-${seriesOf(user)}`} aria-hidden="true">
      {initials(name ?? user)}
    </span>
  );
}

/** Up to `limit` avatars, then how many more. `count` may exceed the people that are known. */
export function Avatars({ people, count, limit = 5 }: { people: readonly AvatarProps[]; count: number; limit?: number }) {
  const shown = people.slice(0, limit);
  const more = count - shown.length;
  return (
    <ul class="avatars" aria-label="Who is here">
      {shown.map(({ user, name }) => (
        <li key={user} title={name ?? user}>
          <Avatar user={user} name={name} />
          <span class="unseen">{name ?? user}</span>
        </li>
      ))}
      {more > 0 && (
        <li class="avatar figures">
          +{more}
          <span class="unseen"> more</span>
        </li>
      )}
    </ul>
  );
}

function seriesOf(user: string): number {
  let hash = 0;
  for (const char of user) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x9e3779b1) >>> 0;
  return (hash >>> 8) % SERIES;
}

function initials(name: string): string {
  const words = name.trim().split(/\s+/u).slice(0, 2);
  return words.map((word) => [...word][0] ?? "").join("").toLocaleUpperCase() || "?";
}
