/** Which tab of a step is opened when it is chosen next. */
let wanted: string | null = null

export function openAt(tab: string, choose: () => void) {
  wanted = tab
  choose()
}

export function takeTab(): string {
  const tab = wanted ?? 'settings'
  wanted = null
  return tab
}
