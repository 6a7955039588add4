/** Lines that will be there in a moment; not shown before waiting lasts. */
export function Skeleton({ rows = 5, what }: { rows?: number; what: string }) {
  return (
    <div class="skeletons" role="status" aria-label={`${what} are on their way`}>
      {Array.from({ length: rows }, (_, index) => (
        <div class="skeleton" key={index} />
      ))}
    </div>
  );
}
