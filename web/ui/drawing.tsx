const DRAWINGS = {
  /** Rings that go out from a point. */
  channels: (
    <>
      <circle class="tint" cx="64" cy="44" r="9" />
      <path d="M46 62a25 25 0 0 1 0-36M82 26a25 25 0 0 1 0 36M34 74a42 42 0 0 1 0-60M94 14a42 42 0 0 1 0 60" />
    </>
  ),
  /** Three sheets, the first one open. */
  rules: (
    <>
      <path d="M30 22h58v44H30Z" />
      <path class="tint" d="M40 32h58v44H40Z" />
      <path d="M50 44h14M50 54h30M50 64h22M88 44h.01" />
    </>
  ),
  people: (
    <>
      <circle cx="40" cy="36" r="10" />
      <circle cx="88" cy="36" r="10" />
      <path d="M22 70c2-13 9-18 18-18M106 70c-2-13-9-18-18-18" />
      <circle class="tint" cx="64" cy="34" r="13" />
      <path class="tint" d="M40 76c2-18 12-24 24-24s22 6 24 24Z" />
    </>
  ),
  keys: (
    <>
      <circle class="tint" cx="44" cy="44" r="18" />
      <circle cx="40" cy="44" r="5" />
      <path d="M62 44h42v12M92 44v9" />
    </>
  ),
  hooks: (
    <>
      <path class="tint" d="M18 28h34v32H18Z" />
      <path d="M76 28h34v32H76ZM26 40h10M26 48h18M84 40h18M84 48h10M56 44h16M67 38.500l5.500 5.500-5.500 5.500" />
    </>
  ),
  files: (
    <>
      <path d="M32 24h26l8 8h30v42H32Z" />
      <path class="tint" d="M42 44h64l-10 30H32Z" />
    </>
  ),
  audit: (
    <>
      <path d="M36 16h56v60H36Z" />
      <path class="tint" d="M48 30a4 4 0 1 0 0 .01ZM48 46a4 4 0 1 0 0 .01ZM48 62a4 4 0 1 0 0 .01Z" />
      <path d="M60 30h22M60 46h16M60 62h20" />
    </>
  ),
  silence: (
    <>
      <path d="M14 46h24l6-14 9 28 9-40 8 34 5-8h39" />
      <circle class="tint" cx="114" cy="46" r="5" />
    </>
  ),
  broken: (
    <>
      <path d="M18 46h28M82 46h28" />
      <path class="tint" d="M46 34h12v24H46ZM70 34h12v24H70Z" />
      <path d="M61 26l3 6M67 26l-3 6M61 66l3-6M67 66l-3-6" />
    </>
  ),
} as const;

export type DrawingName = keyof typeof DRAWINGS;

/** For places that are empty; decoration beside a sentence. */
export function Drawing({ name }: { name: DrawingName }) {
  return (
    <svg class="drawing" viewBox="0 0 128 88" aria-hidden="true">
      {DRAWINGS[name]}
    </svg>
  );
}
