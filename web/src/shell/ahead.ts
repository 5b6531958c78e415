/** What the first page needs is asked for at once when the app begins, instead of each when the one before has come: its
 * code, and of one with a canvas also what it shows and the layout engine. */
import { askAhead } from '../api/queries'
import { engine } from '../canvas/engine'
import { Canvas } from '../canvas/Later'
import { ROUTES } from '../routes'

const NARROW = '(max-width: 760px)'

export function beginAhead(path: string) {
  for (const route of ROUTES) {
    const found = path.match(new RegExp(`^${route.path.replace(':id', '([^/]+)')}$`))
    if (!found) continue
    route.page.ahead()
    const [, kind, id] = path.match(/^\/(workflows|runs)\/([^/]+)$/) ?? []
    if (!kind || !id) return
    if (!matchMedia(NARROW).matches) {
      void engine()
      Canvas.ahead()
      if (kind === 'runs') void import('../run/RunCanvas')
    }
    // with a one-time link in the address there is no session yet
    if (!location.hash) askAhead({ [kind === 'workflows' ? 'workflow' : 'run']: decodeURIComponent(id) })
  }
}
