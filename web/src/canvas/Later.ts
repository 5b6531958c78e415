/** The canvas, whose code is large and not needed on a phone. */
import { later } from '../parts/later'

export const Canvas = later(() => import('./Canvas').then((module) => module.Canvas))
