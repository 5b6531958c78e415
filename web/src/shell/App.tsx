/** Signed in or not, and which page. */

import { useQueryClient } from '@tanstack/react-query'
import { useCallback, useEffect, useState } from 'react'
import { Link, Route, Switch, useRoute } from 'wouter'
import { ApiError, onSignedOut } from '../api/client'
import { asker, usePresence } from '../api/presence'
import { useMe } from '../api/queries'
import { noteSeen } from '../home/left'
import { may } from '../model/rights'
import { later } from '../parts/later'
import { Page } from '../parts/Page'
import { Empty } from '../parts/Table'
import { Boundary, Trouble } from '../parts/Trouble'
import { ROUTES } from '../routes'
import { words } from '../words'
import { useActivity } from './activity'
import { Lost } from './Lost'
import { type Leave, Rail } from './Rail'
import { AFTER_PROVIDER, SignIn } from './SignIn'

const Palette = later(() => import('./Palette').then((module) => module.default))
const Presence = later(() => import('./Presence').then((module) => module.default))
const PublicForm = later(() => import('../public/PublicForm').then((module) => module.default))

/** The one page that asks for no session, and the app. */
export function App() {
  return (
    <Switch>
      <Route path="/forms/:secret">
        <PublicForm />
      </Route>
      <Route>
        <Member />
      </Route>
    </Switch>
  )
}

function Member() {
  const linkToken = useLinkToken()
  const [isBack] = useRoute(AFTER_PROVIDER)
  const me = useMe(linkToken === null && !isBack)
  const client = useQueryClient()
  const [isOut, setIsOut] = useState(false)
  const [atProvider, setAtProvider] = useState<string | null>(null)
  const leave = useCallback((url: string | null) => {
    setAtProvider(url)
    setIsOut(true)
  }, [])
  const enter = () => {
    setIsOut(false)
    void client.resetQueries()
  }
  if (linkToken || isBack || isOut || (me.error instanceof ApiError && me.error.status === 401))
    return <SignIn token={linkToken} atProvider={atProvider} enter={enter} />
  if (me.error) return <Trouble error={me.error} retry={() => me.refetch()} />
  if (!me.data) return null
  return <Inside leave={leave} />
}

/** The token of a one-time link is in the fragment, which is taken out of the address and its history at once. */
function useLinkToken() {
  const [token, setToken] = useState(readToken)
  useEffect(() => {
    const read = () => setToken(readToken() ?? null)
    window.addEventListener('hashchange', read)
    return () => window.removeEventListener('hashchange', read)
  }, [])
  return token
}

const readToken = () => location.hash.match(/^#signin=(.+)$/)?.[1] ?? null

function Inside({ leave }: { leave: Leave }) {
  useActivity(may(useMe().data, 'run:stream'))
  useEffect(noteSeen, [])
  const [isGoing, setIsGoing] = useState(false)
  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      if (!(event.ctrlKey || event.metaKey) || event.key !== 'k') return
      event.preventDefault()
      setIsGoing(true)
    }
    window.addEventListener('keydown', listen, true)
    return () => window.removeEventListener('keydown', listen, true)
  }, [])
  const isAsked = usePresence((state) => state.ask !== null)
  useEffect(() => {
    onSignedOut.current = () => leave(null)
    asker.isThere = true
    return () => {
      asker.isThere = false
      onSignedOut.current = () => {}
    }
  }, [leave])
  return (
    <div className="app">
      <a className="skip" href="#main">
        {words.nav.skip}
      </a>
      <Rail leave={leave} />
      <Lost />
      {isAsked && <Presence />}
      {isGoing && <Palette close={() => setIsGoing(false)} />}
      <main className="main" id="main" tabIndex={-1}>
        <Switch>
          {ROUTES.map(({ path, page: Shown }) => (
            <Route path={path} key={path}>
              {(params: { id?: string }) => (
                <Boundary key={`${path} ${params.id}`}>
                  <Shown id={params.id ?? ''} />
                </Boundary>
              )}
            </Route>
          ))}
          <Route>
            <Page title={words.state.notFound}>
              <Empty title={location.pathname}>
                <Link href="/">{words.state.home}</Link>
              </Empty>
            </Page>
          </Route>
        </Switch>
      </main>
    </div>
  )
}
