/** That the server does not answer, and what is safe meanwhile. */
import { useReach } from '../api/reach'
import { words } from '../words'

export function Lost() {
  const lostAt = useReach((s) => s.lostAt)
  if (!lostAt) return null
  const clock = lostAt.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })
  return (
    <div className="noanswer" role="status">
      <strong>{words.state.noAnswer(clock)}</strong> {words.state.safe}
    </div>
  )
}
