/** Which tab of a step is opened when it is chosen next, and whether its first empty field takes the focus. */
let wanted: string | null = null
let added: string | null = null

export function openAt(tab: string, choose: () => void) {
  wanted = tab
  choose()
}

export function takeTab(): string {
  const tab = wanted ?? 'settings'
  wanted = null
  return tab
}

/** A step that was just added is filled in next. */
export function noteAdded(id: string) {
  added = id
}

const ASKED = '.condition input, .field:has(.req) :is(input, select, .cm-content)'
const isEmpty = (one: HTMLElement) =>
  one instanceof HTMLInputElement || one instanceof HTMLSelectElement ? !one.value : !one.textContent?.trim()

/** The field that a step which was just added asks for first. */
export function focusFirst(id: string, form: HTMLElement | null) {
  if (added !== id) return
  added = null
  const fields = [...(form?.querySelectorAll<HTMLElement>(ASKED) ?? [])]
  fields.find((one) => one.offsetParent && (isEmpty(one) || one.querySelector('.cm-placeholder')))?.focus()
}
