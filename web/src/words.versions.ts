/** Words of the comparison of versions. */
export const versions = {
  title: (name: string) => `Versions of ${name}`,
  from: 'From version',
  to: 'To version',
  back: 'Back to the editor',
  only: 'There is only one version.',
  same: 'The versions are identical.',
  list: 'Differences',
  open: 'Versions',
  timeline: 'All versions',
  version: (n: number) => `Version ${n}`,
  live: 'live',
  draft: 'draft',
  published: 'published',
  restore: 'Restore',
  restoreAsk: (n: number) => `Restore version ${n}?`,
  restoreAbout: (live: number | null | undefined) =>
    `It becomes the draft. ${live ? `Version ${live} stays live until you publish the draft.` : 'Nothing is published.'} No version is lost.`,
  kinds: { added: 'new', removed: 'gone', changed: 'changed' },
  more: (n: number) => `and ${n} more`,
}
