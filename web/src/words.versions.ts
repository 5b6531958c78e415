/** Words of the comparison of versions. */
export const versions = {
  title: (name: string) => `Versions of ${name}`,
  from: 'From version',
  to: 'To version',
  back: 'Back to the editor',
  only: 'There is only one version.',
  same: 'The versions are identical.',
  list: 'Differences',
  open: 'Compare versions',
  kinds: { added: 'new', removed: 'gone', changed: 'changed' },
  more: (n: number) => `and ${n} more`,
}
